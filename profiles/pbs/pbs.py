"""How a Snakemake job becomes a PBS job: what to ask for, and what the server's answers mean.

The functions are pure; submit.py, status.py and cancel.py beside this file call them and the
server. Two dialects of qsub are spoken: ``pbs`` (PBS Pro, OpenPBS) and ``torque``.

A job's script is wrapped so that it leaves its exit status in a small file: a server may forget a
job before it is asked (no history, or a purged one), and torque's qstat need not say how it ended.

Only the standard library, and nothing newer than Python 3.8: these run with a login node's python3.
"""

from __future__ import annotations

import json
import re
import shlex

DIALECTS = ("pbs", "torque")
MARKS = ".snakemake/pbs"  # below the working directory: exit statuses that jobs left

RUNNING, SUCCESS, FAILED = "running", "success", "failed"
_OVER = {"F", "C", "X"}  # finished (PBS Pro), completed (torque), expired (a subjob)
_FORGOTTEN = ("unknown job",)
_NOT_SPOKEN = ("usage:", "unknown option", "invalid option")


class BadRequest(Exception):
    """A job asks for what cannot be asked of PBS; one sentence."""


def properties(jobscript: str) -> dict:
    """Return what Snakemake says of a job in its script: rule, threads, resources, wildcards."""
    for line in jobscript.splitlines():
        if line.startswith("# properties = "):
            return json.loads(line[len("# properties = ") :])
    raise BadRequest("the job script has no line '# properties = ...'; was it made by Snakemake?")


def request(job: dict) -> list[str]:
    """Return qsub's options for a job.

    ``nodes`` chunks of ``tasks / nodes`` ranks with ``threads`` cores each. ``mem_mb`` is that of a
    node, as in Slurm; torque wants the job's.

    Raises:
        BadRequest: ranks or GPUs that do not divide by the nodes, or an unknown dialect.
    """
    asked = job["resources"]
    dialect = asked.get("pbs_dialect") or "pbs"
    if dialect not in DIALECTS:
        raise BadRequest(f"pbs_dialect is {dialect!r}; give one of {', '.join(DIALECTS)}")
    nodes = int(asked.get("nodes", 1))
    ranks = _a_node(int(asked.get("tasks", 1)), nodes, "tasks", job)
    gpus = _a_node(int(asked.get("gpu", 0)), nodes, "gpu", job)
    threads = int(job.get("threads", 1))
    options = ["-N", job_name(job["rule"]), "-j", "oe", "-V"]
    options += ["-A", asked["pbs_account"]] if asked.get("pbs_account") else []
    options += ["-q", asked["pbs_queue"]] if asked.get("pbs_queue") else []
    memory = int(asked["mem_mb"])
    if dialect == "torque":
        places = f"nodes={nodes}:ppn={ranks * threads}" + (f":gpus={gpus}" if gpus else "")
        options += ["-l", f"{places},mem={memory * nodes}mb,walltime={walltime(asked['runtime'])}"]
        return options
    chunk = f"select={nodes}:ncpus={ranks * threads}:mpiprocs={ranks}:ompthreads={threads}"
    chunk += f":mem={memory}mb" + (f":ngpus={gpus}" if gpus else "")
    chunk += f":{asked['pbs_chunk']}" if asked.get("pbs_chunk") else ""
    options += ["-l", chunk, "-l", f"walltime={walltime(asked['runtime'])}"]
    for name in ("place", "filesystems"):
        if asked.get(f"pbs_{name}"):
            options += ["-l", f"{name}={asked[f'pbs_{name}']}"]
    return options


def _a_node(total: int, nodes: int, what: str, job: dict) -> int:
    if nodes < 1 or total % nodes:
        raise BadRequest(
            f"rule {job['rule']}: {what}={total} cannot be spread evenly over nodes={nodes}; make "
            "it a multiple"
        )
    return total // nodes


def walltime(minutes: float) -> str:
    """Return HH:MM:SS of a time in minutes, rounded up to whole minutes."""
    whole = -int(-float(minutes) // 1)
    return f"{whole // 60:02d}:{whole % 60:02d}:00"


def job_name(rule: str) -> str:
    """Return a name that every PBS takes: 15 characters at most, the first a letter."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", rule)
    return (name if name[:1].isalpha() else f"r{name}")[:15]


def log_name(job: dict) -> str:
    """Return where a job's output goes, below the folder of logs: found by rule and wildcards."""
    parts = [str(value) for value in job.get("wildcards", {}).values()]
    return f"{job['rule']}/{re.sub(r'[^A-Za-z0-9_.=-]', '_', '_'.join(parts)) or 'job'}.log"


def number(job_id: str) -> str:
    """Return the number of a job: ``1234`` of ``1234.server.site``."""
    return job_id.strip().split(".")[0]


def wrap(jobscript: str, workdir: str) -> str:
    """Return the script to submit: the job's own, and a file that keeps its exit status."""
    marks = shlex.quote(f"{workdir}/{MARKS}")
    return "\n".join(
        [
            "#!/bin/bash",
            "(",
            jobscript.rstrip("\n"),
            ")",
            "status=$?",
            "id=${PBS_JOBID:-$SLURM_JOB_ID}",
            f"mkdir -p {marks} && echo $status > {marks}/${{id%%.*}}.exit",
            "exit $status",
            "",
        ]
    )


def facts(answer: str, job_id: str) -> dict[str, str]:
    """Return a job's attributes, as text, from what qstat printed: JSON, or torque's lines.

    Some versions of PBS print JSON that is none (an unquoted number with a leading zero among the
    variables of the job's environment); then the two attributes that matter are looked for alone.
    """
    try:
        jobs = json.loads(answer).get("Jobs", {})
    except ValueError:
        pattern = r"\"?\b(job_state|[Ee]xit_status)\b\"?\s*[:=]\s*\"?(-?\w+)"
        return {name.lower(): value for name, value in re.findall(pattern, answer)}
    for name, attributes in jobs.items():
        if number(name) == number(job_id):
            return {key.lower(): str(value) for key, value in attributes.items()}
    return {}


def state(found: dict[str, str], mark: str | None) -> str:
    """Return ``running``, ``success`` or ``failed`` of a job that the server has spoken of.

    Args:
        found: the job's attributes; empty if the server no longer knows it.
        mark: the exit status that the job itself left; None if it left none.
    """
    if found and found.get("job_state") not in _OVER:
        return RUNNING
    status = found.get("exit_status", mark)
    return SUCCESS if status is not None and status.strip() == "0" else FAILED


def is_forgotten(said: str) -> bool:
    """True if the server says that it does not know the job."""
    return any(words in said.lower() for words in _FORGOTTEN)


def is_not_spoken(said: str) -> bool:
    """True if this qstat does not know PBS Pro's options."""
    return any(words in said.lower() for words in _NOT_SPOKEN)

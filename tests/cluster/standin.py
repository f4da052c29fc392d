"""A stand-in for PBS Pro: a strict qsub, qstat and qdel that run jobs as processes of this machine.

    python standin.py qsub|qstat|qdel ...          with PBS_STANDIN naming its folder

It refuses what a PBS Pro server with the rules of a large site would refuse (no account, a queue
that does not exist, memory without a unit, more ranks and threads than cores, ...), and everything
it does not know. Jobs start in the home folder, as they do under PBS, with PBS_JOBID, PBS_NODEFILE
and PBS_O_WORKDIR set; they end by themselves, at their walltime or by qdel, and their states stay
on disk as JSON. If its folder holds a file ``down``, no command reaches the server.

Written from the PBS Professional 2022.1 Reference Guide (qsub, qstat, qdel; job states and exit
values); messages and exit statuses are those of OpenPBS.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SERVER = "standin"
QUEUES, ACCOUNTS = ("workq", "debug"), ("tomo",)
NODES, CORES, GPUS, MEMORY_MB = 2, 4, 4, 16000
MINUTE_S = float(os.environ.get("PBS_STANDIN_MINUTE", "60"))  # walltimes run that fast
_CHUNK = {"ncpus", "mpiprocs", "ompthreads", "mem", "ngpus"}
_PLACE = re.compile(r"(free|pack|scatter|vscatter)(:(excl|shared|exclhost))?")
_KILLED = 256  # Exit_status of a job that a signal ended is this plus the signal
_UNKNOWN, _OVER, _REFUSED, _DOWN = 153, 35, 188, 111


class Refused(Exception):
    """What the server says no to, with the command's exit status."""

    def __init__(self, said: str, code: int = _REFUSED) -> None:
        super().__init__(said)
        self.code = code


# --- qsub: what is asked for ------------------------------------------------------------------


def parse(argv: list[str]) -> dict:
    """Return what a request asks for.

    Raises:
        Refused: it is malformed, or more than any node has.
    """
    job: dict = {"resources": {}, "script": None}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "-V":
            continue
        if word in ("-N", "-A", "-q", "-o", "-j", "-l"):
            if not rest:
                raise Refused(f"qsub: option requires an argument -- '{word[1]}'", 2)
            value = rest.pop(0)
            if word == "-l":
                name, found, asked = value.partition("=")
                if not found or name in job["resources"]:
                    raise Refused(f"qsub: Illegal attribute or resource value {value}")
                job["resources"][name] = asked
            else:
                job[word] = value
        elif word.startswith("-") or job["script"] is not None or rest:
            raise Refused(
                f"qsub: invalid option or operand {word}\nusage: qsub [-A account] ...", 2
            )
        else:
            job["script"] = word
    _check(job)
    return job


def _check(job: dict) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.+-]{0,14}", job.get("-N", "x")):
        raise Refused("qsub: illegal -N value", 2)
    if job.get("-j", "oe") not in ("oe", "eo", "n"):
        raise Refused("qsub: illegal -j value", 2)
    if job.get("-A") not in ACCOUNTS:
        raise Refused("qsub: Request rejected. Reason: No active allocation found for project")
    if job.get("-q", QUEUES[0]) not in QUEUES:
        raise Refused("qsub: Unknown queue")
    if not (job["script"] and os.path.isfile(job["script"])):
        raise Refused("qsub: script file: No such file or directory", 2)
    if not os.path.isdir(os.path.dirname(job.get("-o", "")) or "."):
        raise Refused(f"qsub: {job['-o']}: no such folder")
    asked = dict(job["resources"])
    job["cores"], job["ranks"] = _select(asked.pop("select", ""))
    job["seconds"] = _seconds(asked.pop("walltime", ""))
    if not _PLACE.fullmatch(asked.pop("place", "free")):
        raise Refused("qsub: Illegal attribute or resource value Resource_List.place")
    if not re.fullmatch(r"[a-z]+(:[a-z]+)*", asked.pop("filesystems", "home")):
        raise Refused("qsub: Illegal attribute or resource value Resource_List.filesystems")
    if asked:
        raise Refused(f"qsub: Unknown resource: {', '.join(asked)}")


def _select(text: str) -> tuple[int, int]:
    """Cores and MPI ranks that a select statement asks for, all chunks together."""
    count, *parts = text.split(":")
    chunk = dict(part.partition("=")[::2] for part in parts)
    if not count.isdigit() or not 1 <= int(count) <= NODES or len(chunk) != len(parts):
        raise Refused("qsub: Illegal attribute or resource value Resource_List.select")
    if unknown := chunk.keys() - _CHUNK:
        raise Refused(f"qsub: Unknown resource: {', '.join(sorted(unknown))}")
    memory = re.fullmatch(r"(\d+)(mb|gb)", chunk.pop("mem", ""))
    if not memory or not all(value.isdigit() for value in chunk.values()):
        raise Refused("qsub: Illegal attribute or resource value Resource_List.select")
    numbers = {"ncpus": 1, "mpiprocs": 1, "ompthreads": 1, "ngpus": 0}
    numbers |= {name: int(value) for name, value in chunk.items()}
    if numbers["mpiprocs"] * numbers["ompthreads"] > numbers["ncpus"]:
        raise Refused("qsub: more ranks and threads than cores in a chunk")
    megabytes = int(memory[1]) * (1000 if memory[2] == "gb" else 1)
    if numbers["ncpus"] > CORES or numbers["ngpus"] > GPUS or megabytes > MEMORY_MB:
        raise Refused("qsub: Job violates queue and/or server resource limits")
    return int(count) * numbers["ncpus"], int(count) * numbers["mpiprocs"]


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", text)
    if not found:
        raise Refused("qsub: Illegal attribute or resource value Resource_List.walltime")
    hours, minutes, seconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds


# --- the server: jobs on disk -----------------------------------------------------------------


class Server:
    """Jobs as JSON files below a folder; each command is one process, so a lock orders them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if (folder / "down").exists():
            raise Refused(
                f"Connection refused\ncannot connect to server {SERVER} (errno=15010)", _DOWN
            )
        self.jobs = folder / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other command changes a job."""
        with open(self.folder / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, job_id: str) -> dict:
        """Return a job. Raises: Refused, if there is none."""
        number = job_id.split(".")[0]
        try:
            return json.loads((self.jobs / f"{number}.json").read_text())
        except (FileNotFoundError, ValueError):
            raise Refused(f"qstat: Unknown Job Id {job_id}", _UNKNOWN) from None

    def write(self, job: dict) -> None:
        """Keep a job, atomically."""
        place = self.jobs / f"{job['number']}.json"
        partial = place.with_suffix(".part")
        partial.write_text(json.dumps(job))
        partial.replace(place)

    def all(self) -> list[dict]:
        """Return all jobs, oldest first."""
        numbers = sorted(int(p.stem) for p in self.jobs.glob("*.json"))
        return [self.read(str(n)) for n in numbers]


def qsub(argv: list[str]) -> int:
    """Take a job and start what waits for its turn."""
    server = Server(Path(os.environ["PBS_STANDIN"]))
    job = parse(argv)
    with server.locked():
        known = server.all()
        number = known[-1]["number"] + 1 if known else 1
        job |= {"number": number, "job_state": "Q", "workdir": os.getcwd(), "argv": argv}
        script = server.jobs / f"{number}.sh"
        script.write_text(Path(job["script"]).read_text())  # the server keeps a copy of its own
        server.write(job)
    subprocess.Popen(
        [sys.executable, __file__, "run", str(number)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=open(server.folder / "server.log", "a"),
        start_new_session=True,
    )
    print(f"{number}.{SERVER}")
    return 0


def run(number: str) -> None:
    """Wait until cores are free, run a job, note how it ended."""
    server = Server(Path(os.environ["PBS_STANDIN"]))
    while True:
        with server.locked():
            job = server.read(number)
            if job["job_state"] != "Q":
                return  # deleted before it began
            busy = sum(j["cores"] for j in server.all() if j["job_state"] == "R")
            if busy + job["cores"] <= max(CORES, job["cores"]):
                process = _spawn(server, job)
                server.write(job | {"job_state": "R", "pid": process.pid})
                break
        time.sleep(0.1)
    try:
        code = process.wait(timeout=job["seconds"] / 60 * MINUTE_S)
    except subprocess.TimeoutExpired:
        end(process.pid)
        code = process.wait()
    with server.locked():
        job = server.read(number)
        job |= {"job_state": "F", "Exit_status": code if code >= 0 else _KILLED - code}
        server.write(job)


def _spawn(server: Server, job: dict) -> subprocess.Popen[bytes]:
    nodefile = server.jobs / f"{job['number']}.nodes"  # a line a rank; all are this machine
    nodefile.write_text(f"{socket.gethostname()}\n" * job["ranks"])
    env = os.environ | {
        "PBS_NODEFILE": str(nodefile),
        "PBS_JOBID": f"{job['number']}.{SERVER}",
        "PBS_O_WORKDIR": job["workdir"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
    }
    with open(job.get("-o", os.devnull), "wb") as out:
        return subprocess.Popen(
            ["/bin/bash", str(server.jobs / f"{job['number']}.sh")],
            cwd=Path.home(),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def end(pid: int, grace_s: float = 2) -> None:
    """End a job's processes as PBS does: SIGTERM to its session, then SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        time.sleep(grace_s)
        os.killpg(pid, signal.SIGKILL)


def qstat(argv: list[str]) -> int:
    """Answer ``-x -f -F json JOBID ...``; nothing else is spoken here."""
    if argv[:4] != ["-x", "-f", "-F", "json"] or not argv[4:]:
        raise Refused("qstat: this stand-in answers -x -f -F json JOBID only", 2)
    server = Server(Path(os.environ["PBS_STANDIN"]))
    jobs = {}
    for job_id in argv[4:]:
        job = server.read(job_id)
        jobs[f"{job['number']}.{SERVER}"] = {
            "Job_Name": job.get("-N", ""),
            "job_state": job["job_state"],
            "Resource_List": job["resources"],
            **({"Exit_status": job["Exit_status"]} if "Exit_status" in job else {}),
        }
    print(json.dumps({"timestamp": int(time.time()), "pbs_server": SERVER, "Jobs": jobs}, indent=4))
    return 0


def qdel(argv: list[str]) -> int:
    """End jobs, or take them out of the queue."""
    server = Server(Path(os.environ["PBS_STANDIN"]))
    for job_id in argv:
        with server.locked():
            job = server.read(job_id)
            if job["job_state"] == "F":
                raise Refused(f"qdel: Job has finished {job_id}", _OVER)
            if job["job_state"] == "Q":
                server.write(job | {"job_state": "F", "Exit_status": _KILLED + signal.SIGTERM})
        if job["job_state"] == "R":
            end(job["pid"])
    return 0


def main(argv: list[str]) -> int:
    """Be one of the commands."""
    what, *rest = argv
    try:
        if what == "run":
            run(rest[0])
            return 0
        return {"qsub": qsub, "qstat": qstat, "qdel": qdel}[what](rest)
    except Refused as no:
        print(no, file=sys.stderr)
        return no.code


def install(folder: Path) -> dict[str, str]:
    """Put the three commands into ``folder/bin``; return the environment in which they answer."""
    (folder / "bin").mkdir(parents=True)
    for name in ("qsub", "qstat", "qdel"):
        place = folder / "bin" / name
        place.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        place.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    return os.environ | {"PATH": path, "PBS_STANDIN": str(folder)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

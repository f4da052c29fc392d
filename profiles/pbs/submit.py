#!/usr/bin/env python3
"""Submit a Snakemake job to PBS and print its id: ``submit.py JOBSCRIPT``."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pbs

LOGS = "results/pbs-logs"
_TRIES, _PAUSE_S = 3, 10
# The request never reached the server, so asking again cannot make a second job.
_UNREACHED = ("cannot connect", "connection refused", "no route to host")


def main(path: str) -> int:
    """Submit; the exit status says whether the server took the job."""
    with open(path) as file:
        jobscript = file.read()
    try:
        job = pbs.properties(jobscript)
        options = pbs.request(job)
    except pbs.BadRequest as error:
        print(f"profiles/pbs: {error}", file=sys.stderr)
        return 2
    workdir = os.getcwd()
    log = os.path.join(workdir, LOGS, pbs.log_name(job))
    script = os.path.join(workdir, pbs.MARKS, f"{job['rule']}.{job['jobid']}.{os.getpid()}.sh")
    for place in (log, script):
        os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(script, "w") as file:
        file.write(pbs.wrap(jobscript, workdir))
    try:
        return _submit(["qsub", *options, "-o", log, script])
    finally:
        os.unlink(script)  # the server keeps its own copy


def _submit(command: list[str]) -> int:
    for attempt in range(1, _TRIES + 1):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            print(done.stdout.strip().splitlines()[-1])
            return 0
        said = f"{done.stdout}{done.stderr}".strip()
        if attempt == _TRIES or not any(words in said.lower() for words in _UNREACHED):
            break
        time.sleep(_PAUSE_S)
    print(f"profiles/pbs: {' '.join(command)}\nqsub refused: {said}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))

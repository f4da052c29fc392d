#!/usr/bin/env python3
"""Print ``running``, ``success`` or ``failed`` of a PBS job: ``status.py JOBID``.

A server that does not answer says nothing about the job, so it counts as running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pbs

_TIMEOUT_S = 30
_LATE_S = 5  # a shared file system shows a file late


def main(job_id: str) -> int:
    """Ask the server, then the job's own mark."""
    print(judge(job_id))
    return 0


def judge(job_id: str) -> str:
    """Return the job's state."""
    code, out, said = _ask("qstat", "-x", "-f", "-F", "json", job_id)
    if code and pbs.is_not_spoken(said + out):
        code, out, said = _ask("qstat", "-f", job_id)
    found = pbs.facts(out, job_id)
    if not found and code is not None and (code == 0 or pbs.is_forgotten(said + out)):
        return pbs.state({}, _mark(job_id))
    if not found:
        return pbs.RUNNING
    known = pbs.state(found, "") == pbs.RUNNING or "exit_status" in found
    return pbs.state(found, None if known else _mark(job_id))


def _ask(*command: str) -> tuple[int | None, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (subprocess.TimeoutExpired, OSError) as error:
        return None, "", str(error)
    return done.returncode, done.stdout, done.stderr


def _mark(job_id: str) -> str | None:
    """Return the exit status that the job left, and forget it; None if it was killed first."""
    path = os.path.join(pbs.MARKS, f"{pbs.number(job_id)}.exit")
    deadline = time.monotonic() + _LATE_S
    while True:
        try:
            with open(path) as file:
                return file.read()
        except FileNotFoundError:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))

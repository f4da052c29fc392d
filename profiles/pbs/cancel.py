#!/usr/bin/env python3
"""Take PBS jobs out of the queue, or end them: ``cancel.py JOBID ...``.

Snakemake gives this two seconds; qdel goes on in a session of its own if a busy server needs more.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys


def main(job_ids: list[str]) -> int:
    """Call qdel once for all; jobs that are over already are no error."""
    qdel = subprocess.Popen(
        ["qdel", *job_ids],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        qdel.wait(timeout=1.5)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

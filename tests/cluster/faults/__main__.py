"""``make faults``: the whole matrix, fifty faults and more at random moments, compared by bytes.

    python -m tests.cluster.faults [--seed N] [--out FILE] [--only WORDS]

One undisturbed run of the small specimen is the truth. Trials run three at a time; each prints a
line, with the seed that repeats it. What this machine lacks (a Slurm, a C compiler) is left out in
one line each. Exit status 1 if a trial did not end in the undisturbed run's bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tessera.volume.record import atomic_write
from tests.cluster import onebox
from tests.cluster.faults import matrix, places
from tests.cluster.faults.trial import NotMended, TooLate
from tests.workflow.small import REPO, SMALL, snakemake, write_config

OUT = REPO / "benchmarks/results/faults.json"
_AT_ONCE = 3  # some wait for a scheduler


def main(argv: list[str] | None = None) -> int:
    """Throw all faults; write the table; say what came of it."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="repeat a run; by default one is drawn")
    parser.add_argument("--out", type=Path, default=OUT, help="table of results (JSON)")
    parser.add_argument("--only", default="", help="only faults whose line holds these words")
    args = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its Slurm ends with it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        with contextlib.ExitStack() as stack:
            trials = matrix.all_trials(seed, has_full_disk(scratch), a_slurm(stack))
            trials = [trial for trial in trials if args.only in str(trial)]
            finished = undisturbed(scratch / "undisturbed")
            lines: list[dict[str, Any]] = []
            pool = ThreadPoolExecutor(_AT_ONCE)
            try:
                waiting = [pool.submit(attempt, trial, finished, scratch) for trial in trials]
                for one in as_completed(waiting):
                    lines.append(one.result())
                    if not args.only:  # now: also a run that is cut off has shown much
                        write(args.out, seed, lines, time.monotonic() - began, len(trials))
            finally:  # stopped by hand: those that run now end, no other begins
                pool.shutdown(cancel_futures=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    good = sum(line["same"] for line in lines)
    print(f"{good} of {len(lines)} faults ended in the undisturbed run's bytes")
    return 0 if good == len(lines) else 1


def write(out: Path, seed: int, lines: list[dict[str, Any]], seconds: float, planned: int) -> None:
    """Write the table of results so far."""
    table = {
        "command": f"make faults ARGS='--seed {seed}'",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": round(seconds),
        "planned": planned,
        "faults": len(lines),
        "same": sum(line["same"] for line in lines),
        "by_fault": count(lines),
        "in_flight_of_ranks_at_kills": [
            [line["in_flight"], line["ranks"]] for line in lines if "in_flight" in line
        ],
        "noted_blocks_done_again": sum(line.get("noted_done_again", 0) for line in lines),
        "trials": sorted(lines, key=lambda line: (line["on"], line["fault"], line["seed"])),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, json.dumps(table, indent=1) + "\n")


def attempt(trial: matrix.Planned, finished: Path, scratch: Path) -> dict[str, Any]:
    """Run one trial and print its line."""
    try:
        line = matrix.throw(trial, finished, scratch)
    except (NotMended, TooLate) as problem:
        line = {"fault": trial.fault.name, "on": trial.on, "seed": trial.seed, "same": False}
        line["problem"] = f"{type(problem).__name__}: {problem}"[-2000:]
    except Exception:  # one broken trial must not hide what the others showed
        line = {"fault": trial.fault.name, "on": trial.on, "seed": trial.seed, "same": False}
        line["problem"] = traceback.format_exc()[-2000:]
    verdict = "same bytes" if line["same"] else "NOT THE SAME"
    rest = {k: v for k, v in line.items() if k not in ("fault", "on", "same", "seed", "stage")}
    print(
        f"{verdict}: {line['fault']}, {line['on']}, {line.get('stage', '?')}, seed {line['seed']}: "
        + ", ".join(f"{key} {value}" for key, value in rest.items()),
        flush=True,
    )
    return line


def count(lines: list[dict[str, Any]]) -> dict[str, str]:
    """Return fault -> how many of how many ended well."""
    out: dict[str, str] = {}
    for name in sorted({f"{line['fault']} ({line['on']})" for line in lines}):
        mine = [line for line in lines if f"{line['fault']} ({line['on']})" == name]
        out[name] = f"{sum(line['same'] for line in mine)} of {len(mine)}"
    return out


def has_full_disk(scratch: Path) -> bool:
    """True if a full disk can be played here; else says why not."""
    there = places.build_full_disk(scratch / places.FULL_DISK)
    if not there:
        print("no C compiler here (cc): the full disk is left out")
    return there


def a_slurm(stack: contextlib.ExitStack) -> onebox.OneBox | None:
    """Start a Slurm that lives as long as the stack; None, with a line, where there is none."""
    missing = onebox.missing()
    if missing:
        print(f"no Slurm here ({', '.join(missing)} missing): its faults are left out")
        return None
    return stack.enter_context(onebox.running())


def undisturbed(folder: Path) -> Path:
    """Run the small specimen the whole way; returns its folder."""
    folder.mkdir()
    done = snakemake(folder, write_config(folder, SMALL))
    if done.returncode:
        raise SystemExit(f"the undisturbed run failed:\n{done.stderr[-3000:]}")
    return folder


if __name__ == "__main__":
    sys.exit(main())

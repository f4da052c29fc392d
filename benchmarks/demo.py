"""The demo, timed and disturbed: twice undisturbed, once killed at random moments and resumed.

    python benchmarks/demo.py [--kills 3] [--seed 1] [--config config.yaml]

Prints and writes to ``benchmarks/results/demo.json``: seconds and the peak memory of all processes
together, what the demo scored, and whether the volumes, models and tables of the three runs are
identical, byte for byte. Takes three to four times as long as the demo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # how the tests run the workflow and compare its results

from tests.workflow.small import command, contents, environment  # noqa: E402

SCORES = (
    "soma.f1", "soma.dice", "soma.count_error", "vessel.dice", "tiles.position_rms",
    "tiles.axis_rms", "recon.correlation", "predict.seam_score",
)  # fmt: skip


def start(folder: Path, config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the workflow in a process group of its own."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command(folder, config),
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def memory_gib(process: psutil.Process) -> float:
    """Memory of a process and all below it; what they share counts once (PSS)."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            total += one.memory_full_info().pss
    return total / 2**30


def run(folder: Path, config: Path, log: Path) -> tuple[float, float]:
    """Run to the end; return seconds and the peak of the memory, looked at every second."""
    begun, peak = time.perf_counter(), 0.0
    job = start(folder, config, log)
    process = psutil.Process(job.pid)
    while job.poll() is None:
        with contextlib.suppress(psutil.Error):
            peak = max(peak, memory_gib(process))
        time.sleep(1.0)
    if job.returncode:
        sys.exit(f"the run in {folder} failed; see {log}")
    return time.perf_counter() - begun, peak


def run_killed(folder: Path, config: Path, log: Path, moments: list[float]) -> list[str]:
    """Kill the whole process group after each of ``moments`` seconds, then run to the end."""
    ends = []
    for moment in moments:
        job = start(folder, config, log)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.wait(timeout=moment)
        ends.append("killed" if job.poll() is None else "was done")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    run(folder, config, log)
    return ends


def warnings(log: Path) -> list[str]:
    """Lines of a run's output that warn of something."""
    return re.findall(r"^.*\bwarning\b.*$", log.read_text(), re.I | re.M)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE.parent / "config.yaml")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of killing")
    args = parser.parse_args()
    found: dict[str, Any] = {"config": args.config.name, "cores": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory(prefix="tessera-demo-") as name:
        base = Path(name)
        config = args.config.resolve()
        folders = [base / n for n in ("first", "second", "killed")]
        for folder in folders:
            folder.mkdir()
        logs = [base / f"{folder.name}.log" for folder in folders]
        seconds, peak = run(folders[0], config, logs[0])
        again, _ = run(folders[1], config, logs[1])
        dice = random.Random(args.seed)
        moments = sorted(round(dice.uniform(0.05, 0.9) * seconds / 2, 1) for _ in range(args.kills))
        ends = run_killed(folders[2], config, logs[2], moments)
        metrics = json.loads(
            next((folders[0] / "results").glob("*/evaluate/metrics.json")).read_text()
        )
        hashes = [contents(folder / "results") for folder in folders]
        found |= {
            "seconds": round(seconds, 1),
            "seconds_again": round(again, 1),
            "peak_gib": round(peak, 2),
            "warnings": warnings(logs[0]),
            "killed_after_s": moments,
            "kills": ends,
            "files_compared": len(hashes[0]),
            "identical_twice": hashes[0] == hashes[1],
            "identical_killed": hashes[0] == hashes[2],
            "scores": {n: metrics[n]["value"] for n in SCORES if n in metrics},
        }
    text = json.dumps(found, indent=1)
    print(text)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/demo.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

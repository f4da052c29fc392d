"""What benchmarks share: how a command is started and timed, and how results are kept."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def tessera(*words: str, ranks: int = 1, threads: int = 1) -> list[str]:
    """The command line of a stage, under MPI's launcher if it is to be several ranks."""
    line = [sys.executable, "-m", "tessera.cli", *words]
    if ranks == 1:
        return line
    # As profiles/local does: a rank that waits must not take the core from one that computes.
    launcher = ["mpiexec", "--oversubscribe", "--bind-to", "none"]
    launcher += ["--mca", "mpi_yield_when_idle", "1", "-n", str(ranks)]
    return [*launcher, *line, "--ranks", str(ranks)]


def timed(
    line: list[str], folder: Path | None = None, core: int | None = None
) -> tuple[float, float]:
    """Run a command with one thread a rank; returns its wall and user seconds.

    ``core`` confines it to one core, as a cluster does to a job that asks for one.
    """
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | root
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    began = time.perf_counter()
    line = line if core is None else ["taskset", "-c", str(core), *line]
    done = subprocess.run(line, capture_output=True, text=True, env=env, cwd=folder)
    took = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def keep(name: str, found: dict[str, Any]) -> None:
    """Print results and write them to ``results/<name>.json``, with what they were measured on."""
    found = found | {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_1_min": round(os.getloadavg()[0], 1),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))

"""What the engine costs a block, and what a volume of 10^6 blocks costs before it is begun.

    python benchmarks/engine.py [--largest 100000]

The work is nothing but a file of 512 bytes a block. What a plain loop that writes these files
takes is taken off; the rest is boxes, threads, hashes, journal and record. A second run finds all
done: what it takes is the check of every hash. Results in results/engine.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zarr
from common import keep, tessera, timed

from tessera.compute.measure import peak_mib
from tessera.volume.box import Block, Grid
from tessera.volume.engine import Task, run_batch

REPO = Path(__file__).resolve().parents[1]
# A child that runs a command and writes down the largest memory of any process of it, in MiB.
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
open("peak", "w").write(str(round(peak)))
sys.exit(code)
"""
DATA = np.random.default_rng(0).bytes(512)


def cost_a_block(blocks: int) -> dict[str, float]:
    """Milliseconds a block, and inodes a block, of a batch of so many."""
    grid = Grid.of((blocks // 100, 10, 10), (1, 1, 1))
    with tempfile.TemporaryDirectory() as folder:

        def file_of(root: str, block: Block) -> Path:
            z, y, x = block.index
            return Path(folder, root, str(z), str(y * 10 + x))

        for root in ("bare", "out"):
            for z in range(grid.counts.z):
                Path(folder, root, str(z)).mkdir(parents=True)

        def write(block: Block, result: None) -> None:
            file_of("out", block).write_bytes(DATA)

        began = time.perf_counter()
        for block in grid:
            file_of("bare", block).write_bytes(DATA)
        bare = time.perf_counter() - began
        task = Task(
            lambda block: None,
            lambda block, data: None,
            write,
            lambda block: [file_of("out", block)],
        )
        record = Path(folder, "records", "0000.json")
        began, used = time.perf_counter(), time.process_time()
        run_batch(task, list(grid), record, "key", progress=False)
        first, cpu = time.perf_counter() - began, time.process_time() - used
        began = time.perf_counter()
        run_batch(task, list(grid), record, "key", progress=False)
        again = time.perf_counter() - began
        records = sum(1 for _ in record.parent.iterdir())
    return {
        "overhead_ms_a_block": round(1e3 * (first - bare) / blocks, 3),
        "cpu_ms_a_block": round(1e3 * cpu / blocks, 3),
        "bare_write_ms_a_block": round(1e3 * bare / blocks, 3),
        "found_done_ms_a_block": round(1e3 * again / blocks, 3),
        "record_files": records,
        "process_peak_mib": round(peak_mib()),
    }


def before(side: int, block: int) -> dict[str, Any]:
    """Seconds and MiB of plan and dry run for a volume of (side / block)^3 blocks."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "large.zarr")
        zarr.create_array(path, shape=(side,) * 3, chunks=(64,) * 3, dtype="uint8")
        size = {"block": [block] * 3}
        settings = {
            "specimen": "large",
            "volume": {"path": path, "voxel_um": [1, 1, 1]},
            "mosaic": {"dtype": "uint8", "shard": [block] * 3, "chunk": [block] * 3},
            "models": {"m": {"classes": ["background", "soma"], "labels": [{"path": path}]}},
            "predict": {**size, "chunk": [block] * 3},
            "label": size,
        }
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(settings))
        dry = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "2"]
        dry += ["--snakefile", str(REPO / "Snakefile"), "--directory", folder]
        dry += ["--configfile", str(config)]
        found: dict[str, Any] = {"blocks": (side // block) ** 3}
        for name, line in (("plan", tessera("plan", str(config))), ("dry_run", dry)):
            wall, user = timed([sys.executable, "-c", PEAK, *line], Path(folder))
            peak = float((Path(folder) / "peak").read_text())
            found[name] = {"wall_s": round(wall, 2), "user_s": round(user, 2), "peak_mib": peak}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=100_000)
    args = parser.parse_args()
    sizes = [n for n in (1_000, 10_000, 100_000) if n <= args.largest]
    found: dict[str, Any] = {"blocks": {str(n): cost_a_block(n) for n in sizes}, "bar_ms": 5.0}
    found["a_million_blocks"] = before(800, 8) | {"bar_s": 15.0, "bar_mib": 1024}
    keep("engine", found)


if __name__ == "__main__":
    main()

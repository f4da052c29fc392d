"""Training speed: one rank on one core against N ranks on N cores; and the share of the feed.

    python benchmarks/train.py [--ranks 2] [--steps 30] [--out benchmarks/results/train.json]

A volume of noise and balls is trained on with the default network. Each run is `tessera train` as
anyone would start it; speeds are the median of the lines of `curves.jsonl` after the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tessera.volume.box import Box, Triple
from tessera.volume.record import atomic_write
from tessera.volume.store import Layout, create_volume

SHAPE = (96, 128, 128)


def specimen(folder: Path) -> None:
    """Write a volume and its truth."""
    random = np.random.default_rng(0)
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    truth = np.zeros(SHAPE, np.uint8)
    for _ in range(60):
        centre = [random.uniform(8, n - 8) for n in SHAPE]
        far = sum((a - c) ** 2 for a, c in zip(at, centre, strict=True))
        truth[far <= random.uniform(4, 8) ** 2] = 1
    image = (truth + random.normal(0, 0.5, SHAPE)).astype(np.float32)
    for name, data in (("volume.zarr", image), ("truth.zarr", truth)):
        volume = create_volume(
            folder / name, Layout(Triple(*SHAPE), str(data.dtype), (1.0, 1.0, 1.0))
        )
        volume.write(Box.whole(SHAPE), data)
    facts = {
        "path": "volume.zarr",
        "digest": "benchmark",
        "statistics": {"mean": float(image.mean()), "std": float(image.std())},
    }
    (folder / "volume.json").write_text(json.dumps(facts))


def measure(folder: Path, ranks: int, steps: int) -> dict[str, float]:
    """Train and return samples a second and the feed's share of the time."""
    settings = {"classes": ["background", "soma"], "steps": steps, "lr_scaling": "none"}
    out = folder / f"ranks_{ranks}"
    call = [
        sys.executable, "-m", "tessera.cli", "train", "speed", "--settings", json.dumps(settings),
        "--volume", str(folder / "volume.json"), "--truth", str(folder / "truth.zarr"),
        "--out", str(out), "--ranks", str(ranks),
    ]  # fmt: skip
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {"OMP_NUM_THREADS": "1"}
    if ranks > 1:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        # As the workflow does: ranks that wait must not take the cores from those that compute.
        options = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        call = ["mpiexec", *options, "-n", str(ranks), *call]
    subprocess.run(call, env=env, check=True)
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()
    ]
    steady = lines[1:]
    return {
        "samples_per_s": statistics.median(line["samples_per_s"] for line in steady),
        "feed_share": statistics.median(line["feed_share"] for line in steady),
    }


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specimen(folder)
        one = measure(folder, 1, args.steps)
        many = measure(folder, args.ranks, args.steps)
    found = {
        "one_rank": one,
        f"{args.ranks}_ranks": many,
        "speed_up": many["samples_per_s"] / one["samples_per_s"],
        "bar_speed_up_2_ranks": 1.8,
        "bar_feed_share": 0.1,
    }
    atomic_write(args.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

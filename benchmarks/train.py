"""Training speed: one rank on one core against N ranks on N cores; and the share of the feed.

    python benchmarks/train.py [--ranks 2] [--steps 240] [--turns 2] [--out FILE]

A volume of noise and balls is trained on with the default network. Each run is `tessera train` as
anyone would start it; its speed is that of all steps after the first line of `curves.jsonl`. A
machine's speed drifts, so runs that are compared take turns; the speed-up is the median of the
turns'. The one rank is confined to one core, as a cluster does to it (`--cpus-per-task=1`). As many
trainings of one rank, side by side and strangers to each other, say what the cores and the memory
that they share allow: the ceiling of any speed-up.
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


def settings_of(steps: int) -> dict[str, Any]:
    """The default network's settings."""
    return {"classes": ["background", "soma"], "steps": steps, "lr_scaling": "none"}


def start(
    folder: Path, name: str, ranks: int, settings: dict[str, Any], core: int = 0
) -> subprocess.Popen[bytes]:
    """Begin a training; one rank has ``core`` for itself, and no other."""
    call = [
        sys.executable, "-m", "tessera.cli", "train", "speed", "--settings", json.dumps(settings),
        "--volume", str(folder / "volume.json"),
        *([] if "labels" in settings else ["--truth", str(folder / "truth.zarr")]),
        "--out", str(folder / name), "--ranks", str(ranks),
    ]  # fmt: skip
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    env |= {"OMP_NUM_THREADS": "1"}
    if ranks == 1:
        call = ["taskset", "-c", str(core), *call]
    else:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        # As the workflow does: ranks that wait must not take the cores from those that compute.
        options = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        call = ["mpiexec", *options, "-n", str(ranks), *call]
    return subprocess.Popen(call, env=env)


def speed(training: subprocess.Popen[bytes], out: Path) -> dict[str, float]:
    """Wait for a training; return its samples a second and the feed's share of the time."""
    if training.wait() != 0:
        raise SystemExit(f"the training in {out.name} failed")
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()
    ]
    steady = lines[1:]  # as many steps in each, so that times add up
    return {
        "samples_per_s": round(statistics.harmonic_mean(x["samples_per_s"] for x in steady), 4),
        "feed_share": round(statistics.fmean(x["feed_share"] for x in steady), 4),
    }


def measure(folder: Path, ranks: int, steps: int) -> dict[str, float]:
    """Train with so many ranks."""
    name = f"ranks_{ranks}"
    return speed(start(folder, name, ranks, settings_of(steps)), folder / name)


def strangers(folder: Path, count: int, steps: int) -> float:
    """Return the samples a second of so many trainings of one rank at a time, summed."""
    names = [f"stranger_{n}" for n in range(count)]
    trainings = [start(folder, name, 1, settings_of(steps), n) for n, name in enumerate(names)]
    pairs = zip(trainings, names, strict=True)
    return sum(speed(training, folder / name)["samples_per_s"] for training, name in pairs)


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train.json"))
    args = parser.parse_args()
    turns = []
    for _ in range(args.turns):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            specimen(folder)
            one = measure(folder, 1, args.steps)
            many = measure(folder, args.ranks, args.steps)
            apart = strangers(folder, args.ranks, args.steps)
        turns.append(
            {
                "one_rank": one,
                "ranks": many,
                "speed_up": round(many["samples_per_s"] / one["samples_per_s"], 3),
                "speed_up_of_strangers": round(apart / one["samples_per_s"], 3),
            }
        )
        print(json.dumps(turns[-1]), flush=True)
    found = {
        "ranks": args.ranks,
        "steps": args.steps,
        "turns": turns,
        **{
            name: round(statistics.median(turn[name] for turn in turns), 3)
            for name in ("speed_up", "speed_up_of_strangers")
        },
        "bar_speed_up_2_ranks": 1.8,
        "bar_feed_share": 0.1,
    }
    atomic_write(args.out, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

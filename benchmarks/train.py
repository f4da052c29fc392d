"""Training speed: one rank on one core against N ranks on N cores; and the share of the feed.

    python benchmarks/train.py [--ranks 2] [--rounds 6] [--norm plain]

A volume of noise and balls is trained on with the default network. Each training is `tessera train`
as anyone would start it; they run by turns, in slices (``slices.py``). The one rank is confined to
one core, as a cluster does to it (`--cpus-per-task=1`). As many trainings of one rank, side by side
and strangers to each other, say what the cores and the memory that they share allow. Writes the
norm's part of `benchmarks/results/train.json`: ranks meet once a step, and with a batch norm after
every convolution thirteen times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from slices import compare

from tessera.volume.box import Box, Triple
from tessera.volume.record import atomic_write
from tessera.volume.store import Layout, create_volume

SHAPE = (96, 128, 128)
BATCH = 2
RESULTS = Path(__file__).parent / "results" / "train.json"
FOREVER = 1_000_000  # steps: a training ends when it is no longer wanted


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
    # Of its own session: stopped processes would be hung up on when the caller's shell ends.
    return subprocess.Popen(call, env=env, start_new_session=True)


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=12.0, help="of a slice")
    parser.add_argument("--norm", choices=("plain", "batch"), default="plain")
    args = parser.parse_args()
    settings = {
        "classes": ["background", "soma"], "batch": BATCH, "steps": FOREVER, "lr_scaling": "none",
        "net_options": {"norm": args.norm},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specimen(folder)

        def begin(name: str, ranks: int, core: int) -> subprocess.Popen[bytes]:
            return start(folder, name, ranks, settings, core)

        found = compare(begin, folder, args.ranks, BATCH, args.rounds, args.seconds)
    found["bar_feed_share"] = 0.1
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    atomic_write(RESULTS, json.dumps({**kept, args.norm: found}, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "rounds"}, indent=1))


if __name__ == "__main__":
    main()

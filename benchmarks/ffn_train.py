"""Training speed of a flood-filling network: one rank on one core against N ranks on N cores.

    python benchmarks/ffn_train.py [--ranks 2] [--steps 60]

The network and the specimen are those of ``ffn_fibres.py``. Each run is ``tessera train`` as anyone
would start it. Speeds are fields of view a second, the median of the lines of ``curves.jsonl``
after the first; runs of one rank and of several take turns, and the median of the ratios counts.
As many trainings of one rank, side by side and strangers to each other, say what the cores and the
memory that they share allow. Writes ``training`` in ``benchmarks/results/ffn.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from ffn import keep  # noqa: E402
from ffn_fibres import RECIPE  # noqa: E402
from train import start  # noqa: E402

from tessera.simulate.fibres import make_fibres  # noqa: E402
from tessera.volume.box import Box, Triple  # noqa: E402
from tessera.volume.store import Layout, create_volume  # noqa: E402

SHAPE = (64, 64, 96)


def specimen(folder: Path) -> None:
    """Write a volume and its ids."""
    made = make_fibres(SHAPE, 0)
    for name, data in (("volume.zarr", made.image), ("ids.zarr", made.ids)):
        layout = Layout(Triple(*SHAPE), str(data.dtype), (0.01, 0.01, 0.01))
        create_volume(folder / name, layout).write(Box.whole(SHAPE), data)
    facts = {
        "path": "volume.zarr",
        "digest": "benchmark",
        "statistics": {"mean": float(made.image.mean()), "std": float(np.std(made.image))},
    }
    (folder / "volume.json").write_text(json.dumps(facts))


def speed(folder: Path, ranks: int, trainings: int, steps: int) -> float:
    """Fields of view a second of so many trainings of so many ranks at a time, summed."""
    labels = [{"path": str(folder / "ids.zarr"), "instances_of": "neuron"}]
    settings = {**RECIPE, "steps": steps, "labels": labels}
    begun = []
    for number in range(trainings):
        out = Path(tempfile.mkdtemp(dir=folder))
        training = start(folder, f"{out.name}/{number}", ranks, settings, core=number)
        begun.append((training, out / str(number)))
    total = 0.0
    for training, out in begun:
        if training.wait() != 0:
            raise SystemExit(f"a training of {ranks} ranks failed")
        lines = [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]
        total += statistics.median(line["samples_per_s"] for line in lines[1:])
    return total


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    one, many = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specimen(folder)
        for _ in range(args.turns):
            one.append(speed(folder, 1, 1, args.steps))
            many.append(speed(folder, args.ranks, 1, args.steps))
        apart = speed(folder, 1, args.ranks, args.steps)
    ratios = [m / o for m, o in zip(many, one, strict=True)]
    found = {
        "ranks": args.ranks,
        "fields_of_view_per_s": {
            "one_rank": [round(v, 2) for v in one],
            f"{args.ranks}_ranks": [round(v, 2) for v in many],
        },
        "speed_up": round(statistics.median(ratios), 3),
        "speed_up_of_strangers": round(apart / statistics.median(one), 3),
        "bar_speed_up_2_ranks": 1.8,
    }
    keep(training=found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

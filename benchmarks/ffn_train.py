"""Training speed of a flood-filling network: one rank on one core against N ranks on N cores.

    python benchmarks/ffn_train.py [--ranks 2] [--rounds 48] [--batch 2]

The network and the specimen are those of ``ffn_fibres.py``. Each training is ``tessera train`` as
anyone would start it; they run by turns, in slices (``slices.py``), where a sample is a field of
view. Writes ``training`` in ``benchmarks/results/ffn.json``, or ``training_batch_N`` where each
rank has another batch than that recipe's: the reference's own trainer has 4 fields of view a worker
if nobody says otherwise, so its workers wait for one another half as often.

Steps of cores whose host has other guests vary by a tenth, each core's by itself, and the ranks go
at the pace of the slower one: that alone is a twentieth. It makes rounds as uncertain: six had
medians from 1.69 to 1.85 on different evenings, so take many (48 take 20 minutes), and see the
interval, and the runs before, whose medians stay in ``training_earlier``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from ffn import keep, kept  # noqa: E402
from ffn_fibres import RECIPE  # noqa: E402
from slices import compare  # noqa: E402
from train import FOREVER, start  # noqa: E402

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


def main() -> None:
    """Measure and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a slice")
    parser.add_argument("--batch", type=int, default=RECIPE["batch"], help="of each rank")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specimen(folder)
        labels = [{"path": str(folder / "ids.zarr"), "instances_of": "neuron"}]
        settings = {**RECIPE, "batch": args.batch, "steps": FOREVER, "labels": labels}

        def begin(name: str, ranks: int, core: int) -> subprocess.Popen[bytes]:
            return start(folder, name, ranks, settings, core)

        found = compare(begin, folder, args.ranks, args.batch, args.rounds, args.seconds)
    name = "training" if args.batch == RECIPE["batch"] else f"training_batch_{args.batch}"
    there = kept()
    earlier = there.get(f"{name}_earlier", [])
    if name in there:
        earlier = [*earlier, there[name] | {"rounds": len(there[name]["rounds"])}]
    keep(**{name: found, f"{name}_earlier": earlier})
    print(json.dumps({key: value for key, value in found.items() if key != "rounds"}, indent=1))


if __name__ == "__main__":
    main()

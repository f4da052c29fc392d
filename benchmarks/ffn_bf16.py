"""What bf16 changes in a filled volume.

    python benchmarks/ffn_bf16.py --weights FILE [--slab FILE] [--examples FILE] [--side VOXELS]
        [--fills FOLDER [--only PRECISION ORDER]]

The FIB-25 slab is filled in fp32 and in bf16, from the same seeds, in both orders of seeds, and all
four are scored against the truth, less a margin at each face, beside the published segmentation;
then what both orders agree on. A fill turns the smallest difference into one join more or less, so
one pair of fills says little; the mean over the orders says more. First the logits of the published
examples. Prints all and writes ``benchmarks/results/ffn_bf16.json``.

With ``--fills`` each fill is kept in the folder and not made again; ``--only`` makes one of them
and ends, so that each core can be given one (a quarter to half an hour each).

A bf16 unit multiplies two rounded numbers exactly, adds in fp32 and rounds each layer's result. So
where the processor has none, fp32 arithmetic whose weights, inputs and results are rounded to bf16
gives what such a unit gives, but for the order of sums; only its speed says nothing. That is slow:
only a cube of 110 voxels is filled then, in half an hour of two cores (the slab with bf16 units:
half an hour too).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from common import keep
from torch import Tensor

from tessera.compute.device import Device, cpu_has_bf16
from tessera.compute.measure import cpu_seconds
from tessera.config import Assembly, Fill
from tessera.evaluate.segmentation import scores
from tessera.label.assembly.consensus import consensus
from tessera.nets.ffn import FFN, import_weights
from tessera.predict.ffn.moves import Mover
from tessera.predict.ffn.subvolumes import fill_subvolume

DATA = Path("../shared/data")
REFERENCE = "labels/ffn_reference"
CPU = torch.device("cpu")
SHOWN = ("voi_split_both", "voi_merge_both", "voi_sum_both", "rand_error_both", "coverage")
LARGEST, MEAN = 0.3, 0.02  # bars: difference of logits
BAR_VOI = 0.05
ORDERS = ("forward", "reverse")
WAYS = (*ORDERS, "agreed")
MIN_AGREED = Assembly().min_voxels  # a piece of the consensus


def rounded(x: Tensor) -> Tensor:
    """The nearest numbers that bf16 has, in fp32."""
    return x.bfloat16().float()


def shown(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """The scores that are kept."""
    scored = scores(found, truth)
    return {key: round(float(scored[key]), 4) for key in SHOWN}


class Rounding(Mover):
    """A network whose weights and results are rounded to bf16, but for the last layer's."""

    def __init__(self, net: FFN) -> None:
        super().__init__(net, Device(CPU, "fp32"))
        own = FFN(depth=len(net.blocks) + 1, features=net.last.in_channels, fov=net.fov,
                  deltas=net.deltas)  # fmt: skip
        own.load_state_dict({name: rounded(value) for name, value in net.state_dict().items()})
        own.last.load_state_dict(net.last.state_dict())
        own.to(memory_format=torch.channels_last_3d).eval().requires_grad_(False)  # type: ignore[call-overload]

        def call(fields: Tensor) -> Tensor:
            x = rounded(own.first_a(rounded(fields)))
            x = rounded(own.first_b(torch.relu(x)))
            for block in own.blocks:
                y = rounded(block.a(torch.relu(x)))
                x = rounded(x + rounded(block.b(torch.relu(y))))
            return fields[:, 1:] + own.last(torch.relu(x))

        self._call = call


def fill(mover: Mover, image: np.ndarray, order: Any, kept: Path) -> Any:
    """Labels (z, y, x) of one fill, its moves and CPU minutes; read, if they are kept."""
    if not kept.exists():
        began, moves = cpu_seconds(), mover.moves
        labels = fill_subvolume(image, None, mover, Fill(orders=(order,))).labels[0]
        minutes = round((cpu_seconds() - began) / 60, 1)
        np.savez_compressed(kept, labels=labels, moves=mover.moves - moves, cpu_minutes=minutes)
    return np.load(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=DATA / "ffn/fib25_weights.npz")
    parser.add_argument("--examples", type=Path, default=DATA / "ffn/fov_examples.npz")
    parser.add_argument("--slab", type=Path, default=DATA / "em/fib25_training2_z000-110.h5")
    parser.add_argument("--side", type=int, help="of a cube that is filled instead of the slab")
    parser.add_argument("--margin", type=int, default=24, help="voxels that are not scored")
    parser.add_argument("--fills", type=Path, help="where fills are kept")
    parser.add_argument("--only", nargs=2, metavar=("PRECISION", "ORDER"), help="make one fill")
    args = parser.parse_args()
    state, options = import_weights(args.weights)
    net = FFN(**options)
    net.load_state_dict(state)
    native = cpu_has_bf16()
    side = args.side or (None if native else 110)
    movers = {
        "fp32": Mover(net, Device(CPU, "fp32")),
        "bf16": Mover(net, Device(CPU, "bf16"), compiled=True) if native else Rounding(net),
    }
    with h5py.File(args.slab) as file:
        raw, truth, reference = (
            file[name][(slice(side),) * 3] for name in ("raw", "labels/neuron_ids", REFERENCE)
        )
    image = ((raw.astype(np.float32) - 128) / 33).astype(np.float32)
    if args.only:
        precision, order = args.only
        fill(movers[precision], image, order, args.fills / f"{precision}_{order}.npz")
        return

    examples = np.load(args.examples)
    fields = [np.stack(pair) for pair in zip(examples["image"], examples["seed"], strict=True)]
    found: dict[str, Any] = {"native": native, "logits": {}, "margin_vox": args.margin}
    for name, mover in movers.items():
        off = np.abs(np.stack([mover([one])[0].copy() for one in fields]) - examples["logits"])
        found["logits"][name] = {"largest": float(off.max()), "mean": float(off.mean())}
    print(found["logits"], flush=True)

    inner = (slice(args.margin, -args.margin),) * 3
    found["shape"] = list(image.shape)
    found["reference"] = shown(reference[inner], truth[inner])
    labels: dict[str, list[np.ndarray]] = {name: [] for name in movers}
    with tempfile.TemporaryDirectory() as given:
        for name, mover in movers.items():
            found[name] = {}
            for order in ORDERS:
                kept = (args.fills or Path(given)) / f"{name}_{order}.npz"
                filled = fill(mover, image, order, kept)
                labels[name].append(filled["labels"][inner])
                found[name][order] = shown(labels[name][-1], truth[inner]) | {
                    key: filled[key].item() for key in ("moves", "cpu_minutes")
                }
                print(name, order, found[name][order], flush=True)
            found[name]["agreed"] = shown(consensus(labels[name], MIN_AGREED), truth[inner])
            print(name, "agreed", found[name]["agreed"], flush=True)
    for order, pair in zip(ORDERS, zip(labels["bf16"], labels["fp32"], strict=True), strict=True):
        found[f"bf16_against_fp32_{order}"] = shown(*pair)
    voi = {name: {way: found[name][way]["voi_sum_both"] for way in WAYS} for name in movers}
    worse = {way: voi["bf16"][way] - voi["fp32"][way] for way in WAYS}
    worse["mean_of_orders"] = float(np.mean([worse[order] for order in ORDERS]))
    found["bf16_voi_sum_less_fp32"] = {way: round(by, 4) for way, by in worse.items()}
    found |= {"bar_voi_sum": BAR_VOI, "bars_logits": {"largest": LARGEST, "mean": MEAN}}
    print(found["bf16_voi_sum_less_fp32"])
    keep("ffn_bf16", found)


if __name__ == "__main__":
    main()

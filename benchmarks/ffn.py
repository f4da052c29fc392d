"""Moves per CPU second of a flood-filling network, all variants in one run, beside plain torch.

    python benchmarks/ffn.py [--weights fib25_weights.npz] [--threads 1] [--moves 6]

The yardstick is the same network in eager fp32 with contiguous (NCDHW) tensors. bf16 is timed only
where the processor multiplies bf16 itself; elsewhere it is emulated and tells nothing. ``taken`` is
the precision that a fill takes here if it is told nothing. Each variant
reports its largest difference from the yardstick's logits, and what share of a fill's time is spent
outside of the network. Prints a table and writes ``speed`` in ``benchmarks/results/ffn.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.compute.device import Device, choose, cpu_has_bf16
from tessera.compute.measure import cpu_seconds
from tessera.config import Fill
from tessera.nets.ffn import FFN, import_weights
from tessera.predict.ffn.canvas import Canvas, logit
from tessera.predict.ffn.fill import Filler, State
from tessera.predict.ffn.moves import Mover, drive


def network(weights: str | None) -> FFN:
    if weights is None:
        torch.manual_seed(0)
        return FFN().eval().requires_grad_(False)
    state, options = import_weights(weights)
    net = FFN(**options)
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def field(fov: tuple[int, int, int]) -> np.ndarray:
    random = np.random.default_rng(0)
    seed = np.full(fov, logit(0.05), np.float32)
    seed[tuple(n // 2 for n in fov)] = logit(0.95)
    return np.stack([random.normal(0, 1, fov).astype(np.float32), seed])


def measure(call, moves: int) -> float:
    """Moves per CPU second: the best of some, for who shares the machine disturbs the others."""
    call()  # the first one lays out weights and compiles
    took = []
    for _ in range(moves):
        began = cpu_seconds()
        call()
        took.append(cpu_seconds() - began)
    return 1 / min(took)


def outside(net: FFN, device: Device, moves: int) -> float:
    """Share of a real fill's wall time that is not spent in the network."""
    shape = tuple(f + 6 * d for f, d in zip(net.fov, net.deltas, strict=True))
    image = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    rules = Fill()
    canvas = Canvas(image, net.fov, None, logit(rules.pad))
    mover = Mover(net, device)
    mover([field(net.fov)])
    mover.seconds, spent = 0.0, [0]

    class Enough(Exception):
        pass

    def sure(fields: list[np.ndarray]) -> list[np.ndarray]:
        spent[0] += 1
        if spent[0] > moves:
            raise Enough
        mover(fields)
        return [np.full(net.fov, 3.0, np.float32)]  # an object without end: moves go on

    began = time.perf_counter()
    start = np.array([[n // 2 for n in shape]])
    try:
        drive([Filler(canvas, net.deltas, rules).run(start, State())], sure)
    except Enough:
        pass
    return 1 - mover.seconds / (time.perf_counter() - began)


RESULTS = Path(__file__).resolve().parent / "results/ffn.json"


def kept() -> dict[str, Any]:
    """Return what stands in ``results/ffn.json``."""
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def keep(**parts: object) -> None:
    """Put parts there, beside what stands there."""
    RESULTS.write_text(json.dumps(kept() | parts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="npz of a published network; else random weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--moves", type=int, default=6, help="timed moves of each variant")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    net = network(args.weights)
    given = field(net.fov)
    tensor = torch.from_numpy(given[None])
    with torch.inference_mode():
        known = net(tensor)[0, 0].numpy()

    def plain() -> None:
        with torch.inference_mode():
            net(tensor)

    rows = {"fp32 eager NCDHW": (measure(plain, args.moves), 0.0)}
    last, last_tensor = (
        t.to(memory_format=torch.channels_last_3d) for t in (network(args.weights), tensor)
    )

    def channels_last() -> None:
        with torch.inference_mode():
            last(last_tensor)

    rows["fp32 eager channels_last_3d"] = (measure(channels_last, args.moves), 0.0)
    variants = [("fp32", False, "fp32 minimal filtering")]
    if cpu_has_bf16():
        variants += [
            ("bf16", False, "bf16 eager channels_last_3d"),
            ("bf16", True, "bf16 compiled channels_last_3d"),
        ]
    for precision, compiled, name in variants:
        mover = Mover(net, Device(torch.device("cpu"), precision), compiled=compiled)
        speed = measure(lambda mover=mover: mover([given]), args.moves)
        rows[name] = speed, float(np.abs(mover([given])[0] - known).max())
    base = rows["fp32 eager NCDHW"][0]
    print(f"{'variant':<34}{'moves/CPU s':>12}{'ratio':>8}{'largest difference':>20}")
    for name, (speed, far) in rows.items():
        print(f"{name:<34}{speed:>12.2f}{speed / base:>8.2f}{far:>20.2g}")
    if not cpu_has_bf16():
        print("bf16: not timed, this processor does not multiply it")
    print("taken here:", choose("auto").precision)
    share = outside(net, Device(torch.device("cpu"), "fp32"), args.moves)
    print(f"outside of the network: {100 * share:.2f} % of a fill in fp32")
    moves = {name: round(speed, 3) for name, (speed, _) in rows.items()}
    keep(
        speed={
            "threads": args.threads,
            "taken": choose("auto").precision,
            "moves_per_cpu_s": moves,
            "ratio": {name: round(speed / base, 3) for name, speed in moves.items()},
            "largest_difference_logit": {name: far for name, (_, far) in rows.items()},
            "outside_of_network_percent": round(100 * share, 3),
        }
    )


if __name__ == "__main__":
    main()

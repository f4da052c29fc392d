"""A whole `predict` job, Zarr to Zarr, against the bare network on the same blocks in memory.

    python benchmarks/predict.py [--size 160] [--threads 1]

Two networks with fresh weights: the default one and a plain 3-level U-Net. The bare network is run
over the whole of each read box, as it stands, and once more computing only what the write box
needs; both without reading, writing or softmax. Prints voxels of result a second and ratios, and
writes benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.config import Predict
from tessera.nets.bundle import Facts, load, save
from tessera.nets.norm import fold
from tessera.nets.registry import build
from tessera.predict import plan as plans
from tessera.predict.run import run
from tessera.predict.trim import Trimmed
from tessera.volume.box import Block, Box, Triple
from tessera.volume.store import Layout, create_volume, open_volume

HERE = Path(__file__).parent
NETWORKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "default": ((24, 48), {}),
    "plain": ((16, 32, 64), {"stem": 1, "residual": False}),
}


def lay_out(folder: Path, name: str, size: int) -> plans.Plan:
    """A random volume, a bundle, and the plan of the prediction."""
    channels, options = NETWORKS[name]
    torch.manual_seed(0)
    net: Any = build("unet3d", 3, channels, options)
    facts = Facts(
        net={"name": "unet3d", "channels": list(channels), "options": options},
        classes=("background", "soma", "vessel"),
        activation="softmax",
        normalisation={"mean": 0.0, "std": 1.0},
        voxel_um=(1.0, 1.0, 1.0),
        halo_vox=net.halo,
        align_vox=net.align,
    )
    save(folder / "model", net.state_dict(), facts)
    layout = Layout(Triple(size, size, size), "float32", (1.0, 1.0, 1.0))
    volume = create_volume(folder / "volume.zarr", layout)
    values = np.random.default_rng(0).standard_normal((size,) * 3, dtype=np.float32)
    volume.write(Box.whole(volume.shape), values)
    (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr", "digest": "d"}))
    return plans.create(
        Predict(precision="fp32"), folder / "volume.json", folder / "model", 1, folder / "out"
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(name: str, size: int, threads: int) -> dict[str, Any]:
    """Seconds of the job, of the bare network, and of the bare network trimmed."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        plan = lay_out(Path(folder), name, size)
        blocks = plan.blocks(0, 1)
        volume = open_volume(plan.volume)
        images = [torch.from_numpy(volume.read(b.read))[None, None] for b in blocks]
        net = fold(load(plan.model).net)
        trimmed = Trimmed(net)

        def part(block: Block) -> Any:
            return tuple((s.start, s.stop) for s in block.write.inside(block.read))

        def bare() -> None:
            with torch.inference_mode():
                for image in images:
                    net(image.contiguous(memory_format=torch.channels_last_3d))

        def bare_trimmed() -> None:
            for block, image in zip(blocks, images, strict=True):
                trimmed(image.contiguous(memory_format=torch.channels_last_3d), part(block))

        took = {
            "job": seconds(lambda: run(plan, 0, 1, threads=threads)),
            "bare": seconds(bare),
            "bare_trimmed": seconds(bare_trimmed),
        }
    return {
        "blocks": len(blocks),
        "block": list(plan.grid.block),
        "halo": list(plan.grid.halo),
        "mvoxel_per_s": {k: size**3 / v / 1e6 for k, v in took.items()},
        "job_over_bare": took["bare"] / took["job"],
        "job_over_bare_trimmed": took["bare_trimmed"] / took["job"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    found = {"size": args.size, "threads": args.threads, "precision": "fp32"}
    found |= {name: measure(name, args.size, args.threads) for name in NETWORKS}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/predict.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

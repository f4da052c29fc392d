"""A whole `predict` job, Zarr to Zarr: against the bare network, and against MONAI.

    python benchmarks/predict.py [--size 256] [--threads 2] [--no-peer] [--no-bare] [--no-memory]

1. The default network, a plain 3-level U-Net and MONAI's own U-Net, all with fresh weights. The
   bare network runs over the same blocks in memory, without reading, writing or softmax: as torch
   computes it over the whole read box, and as the job does.
2. MONAI's ``SlidingWindowInferer`` (roi 64, batch 4, overlap 0.25, gaussian) on the same network,
   weights, volume and precision, Zarr to Zarr.
3. Peak memory of the job on one volume and on one four times as large.

Prints ratios, of wall and of CPU seconds, and writes benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.compute.measure import peak_mib
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
CLASSES = ("background", "soma", "vessel")
# name -> network, channels, options
NETWORKS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "default": ("unet3d", (24, 48), {}),
    "plain": ("unet3d", (16, 32, 64), {"stem": 1, "residual": False}),
    "monai": ("monai", (16, 32, 64, 128), {}),
}
SETTINGS = Predict(precision="fp32", memory_gib=4)  # as much as a core has on most machines
RATIOS = {  # what the job is measured against -> its name in the results
    "bare": "job_over_bare",
    "bare_trimmed": "job_over_bare_trimmed",
    "monai": "over_monai",
}
BARS = {"job_over_bare": 0.85, "over_monai": 1.8, "same_classes": 0.99, "memory_ratio": 1.1}


def lay_out(folder: Path, name: str, shape: tuple[int, int, int], settings: Predict) -> plans.Plan:
    """A random smooth volume, a bundle, and the plan of the prediction."""
    kind, channels, options = NETWORKS[name]
    torch.manual_seed(0)
    net: Any = build(kind, len(CLASSES), channels, options)
    if not (folder / "model").exists():
        facts = Facts(
            net={"name": kind, "channels": list(channels), "options": options},
            classes=CLASSES,
            activation="softmax",
            normalisation={"mean": 0.0, "std": 1.0},
            voxel_um=(1.0, 1.0, 1.0),
            halo_vox=net.halo,
            align_vox=net.align,
        )
        save(folder / "model", net.state_dict(), facts)
    layout = Layout(Triple(*shape), "float32", (1.0, 1.0, 1.0))
    volume = create_volume(folder / "volume.zarr", layout)
    random = np.random.default_rng(0)
    for z in range(0, shape[0], layout.shard.z):
        stop = min(z + layout.shard.z, shape[0])
        part = random.standard_normal((stop - z, *shape[1:]), dtype=np.float32)
        volume.write(Box.of((z, 0, 0), (stop, *shape[1:])), part)
    (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr", "digest": "d"}))
    return plans.create(settings, folder / "volume.json", folder / "model", 1, folder / "out")


def seconds(work: Callable[[], object]) -> np.ndarray:
    """Wall and CPU seconds of a call; the latter hardly see what else runs on the machine."""
    began = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - began


def measure(name: str, size: int, threads: int, peer: bool, whole: bool) -> dict[str, Any]:
    """Seconds of the job, of the bare network, of the bare network trimmed, and of MONAI."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        plan = lay_out(folder, name, (size,) * 3, SETTINGS)
        blocks = plan.blocks(0, 1)
        volume = open_volume(plan.volume)
        model = load(plan.model)
        net = fold(model.net)
        trimmed = Trimmed(net, filtered=True)

        def image(block: Block) -> torch.Tensor:
            voxels = torch.from_numpy(volume.read(block.read))[None, None]
            return voxels.contiguous(memory_format=torch.channels_last_3d)

        def part(block: Block) -> Any:
            return tuple((s.start, s.stop) for s in block.write.inside(block.read))

        def bare() -> None:
            with torch.inference_mode():
                for voxels in images:
                    net(voxels)

        def bare_trimmed() -> None:
            for block, voxels in zip(blocks, images, strict=True):
                trimmed(voxels, part(block))

        images = [image(block) for block in blocks]
        trimmed(images[0], part(blocks[0]))  # what is done once is not counted
        took = {
            "job": seconds(lambda: run(plan, 0, 1, threads=threads)),
            "bare_trimmed": seconds(bare_trimmed),
        }
        if whole:
            took["bare"] = seconds(bare)
        same = None
        if peer:
            from predict_peer import slide

            took["monai"] = seconds(lambda: slide(model, plan.volume, folder / "monai.zarr"))
            ours, theirs = (
                open_volume(p).read(Box.whole(volume.shape)).argmax(0)
                for p in (plan.folder / plan.path, folder / "monai.zarr")
            )
            same = float((ours == theirs).mean())
    found = {
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),  # above the threads: others computed as well
        "filtered_convolutions": trimmed.filtered,
        "blocks": len(blocks),
        "block": list(plan.grid.block),
        "halo": list(plan.grid.halo),
        "mvoxel_per_s": {k: round(size**3 / v[0] / 1e6, 4) for k, v in took.items()},
        "cpu_s": {k: round(v[1], 2) for k, v in took.items()},
    }
    for other, key in RATIOS.items():
        if other in took:
            wall, cpu = (took[other] / took["job"]).round(3).tolist()
            found |= {key: wall, f"{key}_cpu": cpu}
    if peer:
        found["same_classes"] = same
    return found


def memory(threads: int) -> dict[str, Any]:
    """Peak memory of the job (MiB), on a volume and on one of four times as many voxels."""
    settings = Predict(precision="fp32", memory_gib=0.3)
    peaks = {}
    for planes in (128, 512):
        with tempfile.TemporaryDirectory() as folder:
            plan = lay_out(Path(folder), "default", (planes, 128, 128), settings)
            call = [sys.executable, __file__, "--job", str(plan.folder), "--threads", str(threads)]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            peaks[f"{planes}x128x128"] = round(float(done.stdout.split()[-1]), 1)
    small, large = peaks.values()
    return {"peak_mib": peaks, "memory_ratio": round(large / small, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-bare", action="store_true", help="not torch over whole read boxes")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        run(plans.read(args.job), 0, 1, threads=args.threads)
        print(peak_mib())
        return
    peer = not args.no_peer and importlib.util.find_spec("monai") is not None
    if peer:
        import predict_peer  # noqa: F401  # registers MONAI's network
    path = HERE / "results/predict.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    found = {"size": args.size, "precision": "fp32", "bars": BARS}
    for name in [args.only] if args.only else NETWORKS:
        if name != "monai" or peer:
            found[name] = measure(name, args.size, args.threads, peer, not args.no_bare)
            print(name, json.dumps(found[name]), flush=True)
    if not args.no_memory:
        found["memory"] = memory(args.threads)
        print("memory", json.dumps(found["memory"]))
    path.write_text(json.dumps(before | found, indent=1) + "\n")


if __name__ == "__main__":
    main()

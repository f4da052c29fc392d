"""A whole `predict` job, Zarr to Zarr: against the bare network, and against MONAI.

    python benchmarks/predict.py [--size 384] [--threads 2] [--turns 3] [--no-peer] [--no-bare]
        [--no-memory] [--models FOLDER]

1. The default network, a plain 3-level U-Net and MONAI's own U-Net, each trained for a minute on a
   specimen of blobs in noise: with fresh weights every other voxel is a tie between classes. The
   bare network runs over the same blocks in memory, without reading, writing or softmax: as torch
   computes it over the whole read box, and as the job does.
2. MONAI's ``SlidingWindowInferer`` (roi 64, batch 4, overlap 0.25, gaussian) on the same network,
   weights, volume and precision, Zarr to Zarr, in a process of its own: as anyone would run it, and
   with freed memory kept as our jobs do (``monai_kept``), which is faster there as well.
3. Peak memory of the job on one volume and on one four times as large.

All take turns, as a machine's speed may change between two runs: a ratio is the median of those
within a turn. Prints ratios, of wall and of CPU seconds; writes benchmarks/results/predict.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import cross_entropy

from tessera.compute.heap import keep_freed
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
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
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
    "monai_kept": "over_monai_kept",
}
BARS = {"job_over_bare": 0.85, "over_monai": 1.8, "same_classes": 0.99, "memory_ratio": 1.1}


def specimen(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs, brighter (1) or darker (2) than what is about them (0), in noise; and the classes."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.standard_normal(shape, dtype=np.float32), 4)
    smooth /= smooth.std()
    classes = np.where(smooth > 1, 1, np.where(smooth < -1, 2, 0)).astype(np.uint8)
    image = np.array([0.0, 1.0, -1.0], np.float32)[classes]
    return image + 0.5 * random.standard_normal(shape, dtype=np.float32), classes


def train(net: Any, steps: int = 150, side: int = 48) -> None:
    """Train on crops of another specimen, by a plain loop of torch."""
    image, classes = (torch.from_numpy(a) for a in specimen((128, 128, 128), seed=1))
    random = np.random.default_rng(2)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    net.train()
    for _ in range(steps):
        crops = [tuple(slice(a, a + side) for a in random.integers(0, 80, 3)) for _ in range(2)]
        logits = net(torch.stack([image[crop] for crop in crops])[:, None])
        loss = cross_entropy(logits, torch.stack([classes[crop] for crop in crops]).long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()


def bundle(name: str, folder: Path) -> Path:
    """A network as a bundle, trained if it is not there yet."""
    kind, channels, options = NETWORKS[name]
    if (folder / name).exists():
        return folder / name
    torch.manual_seed(0)
    net: Any = build(kind, len(CLASSES), channels, options)
    train(net)
    facts = Facts(
        net={"name": kind, "channels": list(channels), "options": options},
        classes=CLASSES,
        activation="softmax",
        normalisation={"mean": 0.0, "std": 1.0},
        voxel_um=(1.0, 1.0, 1.0),
        halo_vox=net.halo,
        align_vox=net.align,
    )
    save(folder / name, net.state_dict(), facts)
    return folder / name


def lay_out(
    folder: Path, model: Path, shape: tuple[int, int, int], settings: Predict
) -> plans.Plan:
    """A volume, and the plan of its prediction."""
    layout = Layout(Triple(*shape), "float32", (1.0, 1.0, 1.0))
    volume = create_volume(folder / "volume.zarr", layout)
    volume.write(Box.whole(shape), specimen(shape, seed=0)[0])
    (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr", "digest": "d"}))
    return plans.create(settings, folder / "volume.json", model, 1, folder / "out")


def seconds(work: Callable[[], object]) -> list[float]:
    """Wall and CPU seconds of a call; the latter hardly see what else runs on the machine."""
    began = time.perf_counter(), time.process_time()
    work()
    return [time.perf_counter() - began[0], time.process_time() - began[1]]


class Peer:
    """MONAI's inferer in a process of its own, which begins when it is told to."""

    def __init__(self, plan: plans.Plan, threads: int, keep: bool) -> None:
        call = [sys.executable, __file__, "--peer", str(plan.folder), "--threads", str(threads)]
        env = {k: v for k, v in os.environ.items() if k != HUGE_PAGES}
        self._process = subprocess.Popen(
            [*call, *(["--keep"] if keep else [])], env=env | ({HUGE_PAGES: "1"} if keep else {}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self) -> list[float]:
        """Wall and CPU seconds of the volume."""
        assert self._process.stdin and self._process.stdout
        print(file=self._process.stdin, flush=True)
        took: list[float] = json.loads(self._process.stdout.readline())
        return took

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(plan: plans.Plan, threads: int) -> None:
    """Be a :class:`Peer`'s process: for each line that comes, one with the seconds."""
    from predict_peer import slide

    torch.set_num_threads(threads)
    model = load(plan.model)
    for _ in sys.stdin:
        print(json.dumps(seconds(lambda: slide(model, plan.volume, theirs(plan)))), flush=True)


def theirs(plan: plans.Plan) -> Path:
    """Where MONAI's result goes."""
    return plan.folder / "monai.zarr"


def measure(
    model_at: Path, size: int, threads: int, turns: int, peer: bool, whole: bool
) -> dict[str, Any]:
    """Seconds of the job, of the bare network, of the bare network trimmed, and of MONAI."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        plan = lay_out(folder, model_at, (size,) * 3, SETTINGS)
        blocks = plan.blocks(0, 1)
        volume = open_volume(plan.volume)
        model = load(plan.model)
        net = fold(model.net)
        trimmed = Trimmed(net, filtered=True, padded=True)

        def image(block: Block) -> torch.Tensor:
            voxels = torch.from_numpy(volume.read(block.read))[None, None]
            return voxels.contiguous(memory_format=torch.channels_last_3d)

        def part(block: Block) -> Any:
            return tuple((s.start, s.stop) for s in block.write.inside(block.read))

        def job() -> None:
            shutil.rmtree(plan.folder / "records", ignore_errors=True)  # else all is done
            run(plan, 0, 1, threads=threads)

        def bare() -> None:
            with torch.inference_mode():
                for voxels in images:
                    net(voxels)

        def bare_trimmed() -> None:
            for block, voxels in zip(blocks, images, strict=True):
                trimmed(voxels, part(block))

        images = [image(block) for block in blocks]
        trimmed(images[0], part(blocks[0]))  # what is done once is not counted
        works = {"job": partial(seconds, job), "bare_trimmed": partial(seconds, bare_trimmed)}
        if whole:
            works["bare"] = partial(seconds, bare)
        peers = {"monai": False, "monai_kept": True} if peer else {}
        works |= {name: Peer(plan, threads, keep) for name, keep in peers.items()}
        took = {name: np.empty((turns, 2)) for name in works}  # wall and CPU seconds
        for turn in range(turns):
            for name, work in works.items():
                took[name][turn] = work()
        for name in peers:
            works[name].close()
        same = None
        if peer:
            both = (
                open_volume(p).read(Box.whole(volume.shape)).argmax(0)
                for p in (plan.folder / plan.path, theirs(plan))
            )
            same = float(np.equal(*both).mean())
    found = {
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),  # above the threads: others computed as well
        "filtered_convolutions": trimmed.filtered,
        "blocks": len(blocks),
        "block": list(plan.grid.block),
        "halo": list(plan.grid.halo),
        "turns": turns,
        "mvoxel_per_s": {k: (size**3 / v[:, 0] / 1e6).round(2).tolist() for k, v in took.items()},
        "cpu_s": {k: v[:, 1].round(2).tolist() for k, v in took.items()},
    }
    for other, key in RATIOS.items():
        if other in took:
            wall, cpu = np.median(took[other] / took["job"], axis=0).round(3).tolist()
            found |= {key: wall, f"{key}_cpu": cpu}
    if peer:
        found["same_classes"] = same
    return found


def memory(model_at: Path, threads: int) -> dict[str, Any]:
    """Peak memory of the job (MiB), on a volume and on one of four times as many voxels.

    Both have blocks enough that reading, computing and writing go on at once.
    """
    settings = Predict(precision="fp32", memory_gib=0.3)
    peaks = {}
    for planes in (512, 2048):
        with tempfile.TemporaryDirectory() as folder:
            plan = lay_out(Path(folder), model_at, (planes, 128, 128), settings)
            call = [sys.executable, __file__, "--job", str(plan.folder), "--threads", str(threads)]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            peaks[f"{planes}x128x128"] = round(float(done.stdout.split()[-1]), 1)
    small, large = peaks.values()
    return {"peak_mib": peaks, "memory_ratio": round(large / small, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-bare", action="store_true", help="not torch over whole read boxes")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    parser.add_argument("--models", type=Path, help="where trained networks are kept")
    for hidden in ("--job", "--peer"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        if args.keep:
            keep_freed()
        serve(plans.read(args.peer), args.threads)
        return
    if HUGE_PAGES not in os.environ:  # as the command does, before torch begins
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, HUGE_PAGES: "1"})
    keep_freed()
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
    with tempfile.TemporaryDirectory() as folder:
        models = args.models or Path(folder)
        for name in [args.only] if args.only else NETWORKS:
            if name != "monai" or peer:
                model = bundle(name, models)
                found[name] = measure(
                    model, args.size, args.threads, args.turns, peer, not args.no_bare
                )
                print(name, json.dumps(found[name]), flush=True)
        if not args.no_memory:
            found["memory"] = memory(bundle("default", models), args.threads)
            print("memory", json.dumps(found["memory"]))
    path.write_text(json.dumps(before | found, indent=1) + "\n")


if __name__ == "__main__":
    main()

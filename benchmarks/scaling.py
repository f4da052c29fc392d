"""Two ranks against one, and memory against the size of the volume, for `predict` and `recon`.

    python benchmarks/scaling.py [--repeats 1] [--only recon]

Whole commands are timed, their start included: one thread a rank, two ranks on two cores, work of
a minute or two, where a batch is usually longer. The one rank is confined to one core, as a cluster
does (`--cpus-per-task=1`); left free it reads, hashes and writes on a second core beside its
network, and that is timed as well. A run that finds all its blocks done is what starting costs;
without it is how the work itself scales. Memory is the largest peak that any
block's record names, of one rank on a volume and on one ten times as large; blocks are the same,
and enough that all that overlaps has begun. Takes some ten minutes on two quiet cores. Results in
results/scaling.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from common import RESULTS, keep, tessera, timed

from tessera.config import Predict
from tessera.nets.bundle import Facts, save
from tessera.nets.registry import build
from tessera.predict import plan as plans
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

SHARD = 64
# name -> ranks, and the core that they are confined to
WAYS = {"rank_free": (1, None), "rank_1": (1, 0), "ranks_2": (2, None)}


def prediction(folder: Path, shape: tuple[int, int, int]) -> Path:
    """A random volume, a bundle with fresh weights, and the layout of the prediction."""
    torch.manual_seed(0)
    channels = (24, 48)
    net: Any = build("unet3d", 3, channels, {})
    facts = Facts(
        net={"name": "unet3d", "channels": list(channels), "options": {}},
        classes=("background", "soma", "vessel"),
        activation="softmax",
        normalisation={"mean": 0.0, "std": 1.0},
        voxel_um=(1.0, 1.0, 1.0),
        halo_vox=net.halo,
        align_vox=net.align,
    )
    save(folder / "model", net.state_dict(), facts)
    volume = create_volume(folder / "volume.zarr", Layout(Triple(*shape), "float32", (1, 1, 1)))
    noise = np.random.default_rng(0).standard_normal((SHARD, *shape[1:]), dtype=np.float32)
    for z in range(0, shape[0], SHARD):
        volume.write(Box.of((z, 0, 0), (z + SHARD, *shape[1:])), noise)
    (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr", "digest": "d"}))
    out = folder / "out"
    # So little memory that blocks are of four shards, in the small volume as in the large.
    settings = Predict(precision="fp32", memory_gib=0.15)
    plans.create(settings, folder / "volume.json", folder / "model", 1, out)
    return out


def scan(folder: Path, rows: int, angles: int = 1201, columns: int = 512) -> Path:
    """A raw scan of nothing but noise, in the Data Exchange layout."""
    random = np.random.default_rng(0)
    path = folder / f"scan{rows}.h5"
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "exchange/data", (angles, rows, columns), np.uint16, chunks=(64, 16, columns)
        )
        for row in range(0, rows, 16):
            data[:, row : row + 16] = random.integers(20000, 30000, (angles, 16, columns))
        file["exchange/data_white"] = np.full((2, rows, columns), 40000, np.uint16)
        file["exchange/data_dark"] = np.full((2, rows, columns), 100, np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, angles, endpoint=False)
        file["exchange/theta"].attrs["units"] = "degrees"
        name = "measurement/instrument/detection_system/objective/resolution"
        file[name] = 1.0
        file[name].attrs["units"] = "um"
    return path


def peaks(out: Path) -> tuple[float, int]:
    """The largest memory that a record names, in MiB, and the number of blocks."""
    entries = [
        json.loads(line)
        for path in out.glob("records/*.json")
        for line in path.read_text().splitlines()[1:]
    ]
    return max(e["peak_mib"] for e in entries), len(entries)


def scaling(out: Path, line: Callable[[int], list[str]], repeats: int) -> dict[str, Any]:
    """Wall seconds with one rank and with two, starts included and not."""
    found: dict[str, Any] = {}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    starts: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(repeats):  # by turns: what else a machine does lasts minutes
        for name, (ranks, core) in WAYS.items():
            shutil.rmtree(out / "records", ignore_errors=True)
            took[name].append(timed(line(ranks), core=core))
            starts[name].append(timed(line(ranks), core=core)[0])
            found[f"{name}_peak_mib"] = peaks(out)[0]
    for name in WAYS:
        found[f"{name}_s"] = round(min(wall for wall, _ in took[name]), 2)
        found[f"{name}_user_s"] = round(min(user for _, user in took[name]), 2)
        found[f"{name}_start_s"] = round(min(starts[name]), 2)
    two = found["ranks_2_s"]
    working = two - found["ranks_2_start_s"]
    for name, one in (("speedup", "rank_1"), ("speedup_against_a_rank_on_two_cores", "rank_free")):
        found[name] = round(found[f"{one}_s"] / two, 2)
        without = found[f"{one}_s"] - found[f"{one}_start_s"]
        found[f"{name}_without_starts"] = round(without / working, 2)
    found["blocks"] = peaks(out)[1]
    return found


def memory(small: Path, large: dict[str, Any]) -> dict[str, Any]:
    """Peaks of one rank on the small volume and on the large one, and their ratio."""
    peak, blocks = peaks(small)
    return {
        "peak_mib": peak,
        "peak_mib_10x": large["rank_1_peak_mib"],
        "blocks": [blocks, large["blocks"]],
        "ratio": round(large["rank_1_peak_mib"] / peak, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", choices=STAGES, help="one stage; the other's results are kept")
    args = parser.parse_args()
    found: dict[str, Any] = {"bar_speedup": 1.7, "bar_memory_ratio": 1.1}
    if args.only and (RESULTS / "scaling.json").exists():
        found |= json.loads((RESULTS / "scaling.json").read_text())
    for name in [args.only] if args.only else STAGES:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = STAGES[name](Path(folder), args.repeats)
            found[name]["load_1_min"] = round(os.getloadavg()[0], 1)
    keep("scaling", found)


def predict(folder: Path, repeats: int) -> dict[str, Any]:
    """All of it for `predict`."""
    small = prediction(folder / "small", (2 * SHARD, 6 * SHARD, 6 * SHARD))
    large = prediction(folder / "large", (20 * SHARD, 6 * SHARD, 6 * SHARD))

    def line(out: Path) -> Callable[[int], list[str]]:
        return lambda ranks: tessera("predict", "run", str(out), ranks=ranks)

    timed(line(small)(1))
    found = scaling(large, line(large), repeats)
    return found | {"memory": memory(small, found)}


def recon(folder: Path, repeats: int) -> dict[str, Any]:
    """All of it for `recon`."""
    settings = json.dumps({"axis": {"column": 255.5}, "rows": 16})
    few, many = scan(folder, 240), scan(folder, 2400)

    def line(path: Path, out: Path) -> Callable[[int], list[str]]:
        given = ("recon", "--settings", settings, str(path), str(out))
        return lambda ranks: tessera(*given, ranks=ranks)

    small, large = folder / "few", folder / "many"
    timed(line(few, small)(1))
    found = scaling(large, line(many, large), repeats)
    return found | {"memory": memory(small, found)}


STAGES = {"predict": predict, "recon": recon}

if __name__ == "__main__":
    main()

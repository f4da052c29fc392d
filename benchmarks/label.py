"""`tessera label`, Zarr to Zarr by blocks, against cc3d with the whole volume in RAM.

    python benchmarks/label.py [--size 512] [--cores 2]

Gaussian blobs fill a tenth of the volume; 26-connected; 64 blocks. `tessera label run` is timed as
a whole command, with one rank and with several; beside it, cc3d alone on the array in memory, and a
script that does with cc3d what the command does. Results in results/label.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, tessera, timed

from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume, open_volume


def blobs(size: int) -> np.ndarray:
    """White noise smoothed by a Gaussian of 4 voxels; the largest tenth is 255, the rest 0."""
    noise = np.random.default_rng(0).standard_normal((size,) * 3, dtype=np.float32)
    waves = np.fft.fftfreq(size).astype(np.float32) ** 2
    damping = np.exp(-2 * (np.pi * 4) ** 2 * waves)
    for axis in range(3):  # an axis at a time: memory of one copy
        shape = [1, 1, 1]
        shape[axis] = size
        for part in np.array_split(np.arange(size), 8):
            index = [slice(None)] * 3
            index[(axis + 1) % 3] = slice(part[0], part[-1] + 1)
            spectrum = np.fft.fft(noise[tuple(index)], axis=axis) * damping.reshape(shape)
            noise[tuple(index)] = np.fft.ifft(spectrum, axis=axis).real
    level = np.quantile(noise[::4, ::4, ::4], 0.9)
    return ((noise > level) * 255).astype(np.uint8)


def store(folder: Path, values: np.ndarray) -> Path:
    """Write the volume as a finished prediction of one class."""
    size = values.shape[0]
    shard = Triple(*[size // 4] * 3)
    layout = Layout(Triple(*values.shape), "uint8", (1, 1, 1), Triple(64, 64, 64), shard, ("a",))
    volume = create_volume(folder / "prob.zarr", layout)
    volume.write(Box.whole(values.shape), values[None])
    (folder / "records").mkdir()
    (folder / "records/0000.json").write_text('{"key": "k", "total": 0}\n')
    given = {"key": "k", "path": "prob.zarr", "classes": ["a"], "batches": 1}
    (folder / "store.json").write_text(json.dumps(given))
    return folder / "store.json"


# cc3d as one would use it for a volume on disk that fits into memory.
PEER = """
import sys, cc3d, numpy, zarr
values = zarr.open_array(sys.argv[1] + "/0", mode="r")[0]
labels = cc3d.connected_components(values, connectivity=26, out_dtype=numpy.uint32)
shard = tuple(n // 4 for n in labels.shape)
out = zarr.create_array(sys.argv[2], shape=labels.shape, dtype="u4", chunks=(64,) * 3, shards=shard)
out[...] = labels
"""


def same_partition(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """True if two labellings are one up to renumbering."""
    table = np.zeros(int(ours.max()) + 1, theirs.dtype)
    back = np.zeros(int(theirs.max()) + 1, ours.dtype)
    for a, b in zip(ours, theirs, strict=True):  # plane by plane
        table[a], back[b] = b, a
    return table[0] == 0 and all(
        np.array_equal(table[a], b) and np.array_equal(back[b], a)
        for a, b in zip(ours, theirs, strict=True)
    )


def main() -> None:
    import cc3d

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    values = blobs(args.size)
    in_ram = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        truth = cc3d.connected_components(values, connectivity=26)
        in_ram.append(time.perf_counter() - began)
    settings = {"block": [args.size // 4] * 3, "min_voxels": 0, "connectivity": 26}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prediction = store(folder / "predict", values)
        given = ["--settings", json.dumps(settings), "--class", "a"]
        given += ["--prediction", str(prediction)]
        ways = {f"ranks_{ranks}": ranks for ranks in (1, args.cores)}
        whole: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        starts: dict[str, list[float]] = {way: [] for way in ways}
        peer = []
        for turn in range(args.repeats):
            for way, ranks in ways.items():
                out = folder / f"label{turn}_{way}"
                line = tessera("label", "run", *given, "--out", str(out), ranks=ranks)
                whole[way].append(timed(line))
                # All blocks are found done: what the start costs, imports, MPI, records and merge.
                starts[way].append(timed(line)[0])
            source, target = str(folder / "predict/prob.zarr"), str(folder / f"peer{turn}.zarr")
            peer.append(timed([sys.executable, "-c", PEER, source, target]))
        labels = open_volume(out / "labels.zarr")
        equal = same_partition(labels.read(Box.whole(labels.shape)), truth)
        entries = [
            json.loads(line)
            for path in out.glob("**/records/*.json")
            for line in path.read_text().splitlines()[1:]
        ]
        beside = sum(1 for p in out.rglob("*") if p.is_file() and "labels.zarr" not in p.parts)
    found: dict[str, Any] = {
        "voxels": values.size,
        "objects": int(truth.max()),
        "ids_equal_up_to_renumbering": equal,
        "cc3d_in_ram_s": min(in_ram),
        "cc3d_zarr_to_zarr_s": min(wall for wall, _ in peer),
        "cc3d_zarr_to_zarr_user_s": min(user for _, user in peer),
        "peak_mib_a_process": max(e["peak_mib"] for e in entries),
        "files_beside_the_shards": beside,
        "bar_ratio": 5.0,
    }
    for way, took in whole.items():
        wall = min(w for w, _ in took)
        working = min(w - s for (w, _), s in zip(took, starts[way], strict=True))
        found[way] = {
            "seconds": wall,
            "user_s": min(user for _, user in took),
            "start_s": min(starts[way]),
            "ratio_to_cc3d_in_ram": wall / min(in_ram),
            "ratio_to_cc3d_in_ram_without_start": working / min(in_ram),
            "ratio_to_cc3d_zarr_to_zarr": wall / min(w for w, _ in peer),
        }
    keep("label", found)


if __name__ == "__main__":
    main()

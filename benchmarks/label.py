"""`tessera label`, Zarr to Zarr by blocks, against cc3d with the whole volume in RAM.

    python benchmarks/label.py [--size 512] [--ranks 2]

Gaussian blobs fill a tenth of the volume; 26-connected; 64 blocks. Prints the ratio of the times
and writes benchmarks/results/label.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume, open_volume

HERE = Path(__file__).parent


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


def command(ranks: int, *words: str) -> float:
    """Run one tessera command, its start included; returns seconds."""
    launcher = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    line = [sys.executable, "-m", "tessera.cli", *words]
    line = [*launcher, *line, "--ranks", str(ranks)] if ranks > 1 else line
    began = time.perf_counter()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(line, check=True, capture_output=True, env=os.environ | {"PATH": path})
    return time.perf_counter() - began


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
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    values = blobs(args.size)
    in_ram = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        truth = cc3d.connected_components(values, connectivity=26)
        in_ram.append(time.perf_counter() - began)
    settings = {"block": [args.size // 4] * 3, "min_voxels": 0, "connectivity": 26}
    with tempfile.TemporaryDirectory() as folder:
        prediction = store(Path(folder) / "predict", values)
        runs = []
        for turn in range(args.repeats):
            out = str(Path(folder) / f"label{turn}")
            given = ["--settings", json.dumps(settings), "--class", "a"]
            given += ["--prediction", str(prediction), "--out", out]
            runs.append(
                {
                    "store": command(1, "label", "store", *given),
                    "local": command(args.ranks, "label", "local", out),
                    "merge": command(1, "label", "merge", out),
                    "relabel": command(args.ranks, "label", "relabel", out),
                    "finish": command(1, "label", "finish", out),
                }
            )
        labels = open_volume(Path(out) / "labels.zarr")
        equal = same_partition(labels.read(Box.whole(labels.shape)), truth)
        entries = [
            json.loads(line)
            for path in Path(out).glob("**/records/*.json")
            for line in path.read_text().splitlines()[1:]
        ]
        # A pass that finds all its blocks done is what starting it costs: imports, MPI, records.
        start = {n: command(n, "label", "local", out) for n in {1, args.ranks}}
    best = min(runs, key=lambda r: sum(r.values()))
    working = sum(best.values()) - 2 * start[args.ranks] - 3 * start[1]
    found = {
        "voxels": values.size,
        "objects": int(truth.max()),
        "ids_equal_up_to_renumbering": equal,
        "cc3d_in_ram_s": min(in_ram),
        "passes_s": best,
        "seconds": sum(best.values()),
        "ratio": sum(best.values()) / min(in_ram),
        "seconds_without_starts": working,
        "ratio_without_starts": working / min(in_ram),
        "peak_mib_a_process": max(e["peak_mib"] for e in entries),
        "start_s": start,
        "ranks": args.ranks,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results/label.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Positions and fusion of mosaics, side by side with multiview-stitcher.

    python benchmarks/mosaic.py [--peer PYTHON] [--seeds 3]

16 tiles (4 x 4) of exact Gaussian blobs with noise: places off by up to 3 voxels, one guess wrong
by 20, one overlap empty. ``PYTHON`` is that of an environment with multiview-stitcher; the best of
its ways of being called counts. Then: fusion of a mosaic and of one four times as large, for speed
and peak memory; and a mosaic of projections against an untiled scan (``mosaic_wide.py``). Writes
``benchmarks/results/mosaic.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the phantom of the tests

from benchmarks.mosaic_wide import wide  # noqa: E402
from tessera.config import Mosaic  # noqa: E402
from tessera.mosaic.register import register, write_positions  # noqa: E402
from tests.mosaic.phantom import VOXEL_UM, Blobs, write_tile  # noqa: E402

SHAPE, STEP, SIDE = (40, 88, 88), 66, 4
WRONG, EMPTY = 9, (4, 5)  # the tile whose guess is wrong; the tiles whose overlap shows nothing
_FUSE = """
import sys, time
from pathlib import Path
from tessera.mosaic.fuse import fuse
from tessera.compute.measure import peak_mib
start = time.perf_counter()
fuse(Path(sys.argv[1]), 0, 1)
print(time.perf_counter() - start, peak_mib())
"""


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles (n, z, y, x), nominal and true places (n, 3) in voxels."""
    rng = np.random.default_rng(seed)
    size = STEP * (SIDE - 1) + SHAPE[1]
    blobs = Blobs.random((SHAPE[0], size, size), seed=seed)
    a, b = (np.array(divmod(n, SIDE)) * STEP for n in EMPTY)
    low, high = np.maximum(a, b) - 8, np.minimum(a, b) + SHAPE[1] + 8
    place = blobs.centres[:, 1:]
    gone = ((place > low) & (place < high)).all(axis=1)
    blobs = Blobs(blobs.centres[~gone], blobs.sigmas[~gone], blobs.heights[~gone])
    grid = np.array([(0, STEP * y, STEP * x) for y in range(SIDE) for x in range(SIDE)], float)
    true = grid + rng.uniform(-3, 3, grid.shape) * (np.arange(SIDE**2) > 0)[:, None]
    nominal = grid.copy()
    nominal[WRONG] += (0, 14, -14)  # 20 voxels
    tiles = [blobs.at(p, SHAPE) + rng.normal(0, 0.1, SHAPE) for p in true]
    return np.array(tiles, np.float32), nominal, true


def errors(places: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """RMS distance to the true places, the first tile as anchor; also without the wrong guess."""
    square = (((places - places[0]) - (true - true[0])) ** 2).sum(axis=1)
    others = np.delete(square, WRONG)
    return {
        "rms_vox": float(np.sqrt(square.mean())),
        "rms_others_vox": float(np.sqrt(others.mean())),
    }


def ours(root: Path, tiles: np.ndarray, nominal: np.ndarray) -> tuple[np.ndarray, float]:
    """Solved places and seconds."""
    folders = [
        write_tile(root / f"t{i:02}", data, place)
        for i, (data, place) in enumerate(zip(tiles, nominal, strict=True))
    ]
    start = time.perf_counter()
    content = register(folders, Mosaic())
    seconds = time.perf_counter() - start
    if not content["gate"]["passed"]:
        print(content["gate"]["reason"])
    return np.array([t["solved_um"] for t in content["tiles"]]) / VOXEL_UM, seconds


def peer(
    python: str, root: Path, tiles: np.ndarray, nominal: np.ndarray, true: np.ndarray
) -> dict[str, Any]:
    """The peer's RMS and seconds, by way of calling it."""
    np.savez(root / "tiles.npz", tiles=tiles, nominal=nominal)
    script = [python, str(HERE / "mosaic_peer.py"), str(root / "tiles.npz"), str(root / "out.json")]
    subprocess.run(script, check=True, capture_output=True, text=True)
    found = json.loads((root / "out.json").read_text())
    for way in found.values():
        if "places" in way:
            way |= errors(np.array(way.pop("places")), true)
    return dict(found)


def positions(seeds: int, python: str | None) -> dict[str, Any]:
    """Accuracy over seeds; the peer's best way counts for each."""
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        tiles, nominal, true = scene(seed)
        with tempfile.TemporaryDirectory() as folder:
            solved, seconds = ours(Path(folder), tiles, nominal)
            row: dict[str, Any] = {"seed": seed, "seconds": seconds} | errors(solved, true)
            if python is not None:
                row["peer"] = peer(python, Path(folder), tiles, nominal, true)
        print(json.dumps(row))
        rows.append(row)
    out: dict[str, Any] = {"rows": rows}
    for name in ("rms_vox", "rms_others_vox"):
        out[name] = float(np.sqrt(np.mean([r[name] ** 2 for r in rows])))
        if python is not None:
            best = [min(w.get(name, np.inf) for w in r["peer"].values()) for r in rows]
            out[f"peer_{name}"] = float(np.sqrt(np.mean(np.square(best))))
            out[f"peer_over_ours_{name}"] = out[f"peer_{name}"] / out[name]
    return out


def fusion(side: int, root: Path) -> dict[str, float]:
    """Mvoxel/s and peak memory of fusing side x side tiles of 64 x 192 x 192."""
    from tessera.mosaic.plan import make_plan, prepare_volume, write_plan

    shape, step = (64, 192, 192), 160
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tiles = []
    for i in range(side * side):
        y, x = divmod(i, side)
        folder = write_tile(root / f"t{i:03}", data, (0, step * y, step * x))
        offset = [0.3 * (i > 0), step * y + 0.4 * (i > 0), step * x + 0.2 * (i > 0)]
        tiles.append(
            {"name": folder.name, "folder": str(folder), "offset_vox": offset}
            | {"gain": 1.0, "offset": 0.0}
        )
    width = step * (side - 1) + shape[1]
    content = {
        "voxel_um": [VOXEL_UM] * 3,
        "frame": {"shape": [shape[0], width, width], "origin_um": [0.0] * 3},
        "gate": {"passed": True, "reason": None},
        "tiles": tiles,
    }
    write_positions(root / "positions.json", content)
    plan = make_plan(root / "positions.json", Mosaic(), 1)
    prepare_volume(root / "volume.zarr", plan.layout, plan.key, {})
    write_plan(root, plan)
    done = subprocess.run(
        [sys.executable, "-c", _FUSE, str(root)], check=True, capture_output=True, text=True
    )
    seconds, peak = map(float, done.stdout.split()[-2:])
    return {"mvoxel_per_s": shape[0] * width**2 / seconds / 1e6, "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="python with multiview-stitcher")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    result: dict[str, Any] = {"positions": positions(args.seeds, args.peer)}
    for name, side in (("fusion", 2), ("fusion_4x", 4)):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = fusion(side, Path(folder))
    result["memory_4x_over_1x"] = result["fusion_4x"]["peak_mib"] / result["fusion"]["peak_mib"]
    result["projections_against_untiled"] = wide()
    out = HERE / "results" / "mosaic.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    found = result["positions"]
    for name, what in (("rms_vox", "all tiles"), ("rms_others_vox", "without the wrong guess")):
        print(f"positions, {what}: {found[name]:.3f} voxel rms", end="")
        if f"peer_{name}" in found:
            ratio = found[f"peer_over_ours_{name}"]
            print(f"; multiview-stitcher {found[f'peer_{name}']:.3f}, {ratio:.1f} x", end="")
        print()
    print(
        f"fusion: {result['fusion']['mvoxel_per_s']:.1f} Mvoxel/s; a mosaic 4 x larger needs "
        f"{result['memory_4x_over_1x']:.2f} x the memory ({result['fusion']['peak_mib']:.0f} MiB)"
    )
    wide_found = result["projections_against_untiled"]
    for found, pixels in ((wide_found, "pixels"), (wide_found["points"], "points for pixels")):
        print(
            f"mosaic of projections against an untiled scan, {pixels}: correlation "
            f"{found['correlation']:.4f}; another untiled scan "
            f"{found['correlation_of_two_untiled']:.4f}, one that stood 0.35 column aside "
            f"{found['correlation_of_two_untiled_one_aside']:.4f}"
        )


if __name__ == "__main__":
    main()

"""Reconstruction against algotom's filtered backprojection, and the whole `tessera recon` job.

    python benchmarks/recon.py [--sizes 721x1024 1501x2048] [--no-job] [--rows 256]

Noise-free analytic Shepp-Logan, ramp filter, one core, CPU seconds a slice in one run. The error is
that within a disc of 0.9 of the radius, against the phantom averaged over each pixel; projections
are averages over detector pixels. (Sampled at the pixels' centres, which no detector does, they
are aliased, and linear interpolation hides some of that: "point_sampled".) "FFTs" is
what the transforms of the padded projections and of one grid a slice take alone. The job reads an
HDF5 file of uint16 and writes OME-Zarr. Prints ratios and writes benchmarks/results/recon.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import h5py
import numpy as np
import scipy.fft

from tessera.config import Axis, Recon, Rings, section_json
from tessera.recon.backends import make_backend
from tessera.recon.gridder import Geometry
from tessera.recon.stripes import remove_stripes

HERE = Path(__file__).parent
SLAB = 16
# value, half axes a and b, centre x and y, angle in degrees (Toft's contrast)
ELLIPSES = np.array([
    [1.0, 0.69, 0.92, 0, 0, 0], [-0.8, 0.6624, 0.874, 0, -0.0184, 0],
    [-0.2, 0.11, 0.31, 0.22, 0, -18], [-0.2, 0.16, 0.41, -0.22, 0, 18],
    [0.1, 0.21, 0.25, 0, 0.35, 0], [0.1, 0.046, 0.046, 0, 0.1, 0],
    [0.1, 0.046, 0.046, 0, -0.1, 0], [0.1, 0.046, 0.023, -0.08, -0.605, 0],
    [0.1, 0.023, 0.023, 0, -0.606, 0], [0.1, 0.023, 0.046, 0.06, -0.605, 0],
])  # fmt: skip


def sinogram(theta: np.ndarray, columns: int, finer: int = 8) -> np.ndarray:
    """Exact line integrals (angles, columns) in pixels, averaged over each pixel's width.

    A detector does that; ``finer`` = 1 samples them at the pixels' centres instead.
    """
    if finer > 1:
        parts = [
            sinogram(t, columns * finer, 1).reshape(len(t), columns, finer).mean(axis=2) / finer
            for t in np.array_split(theta, 16)
        ]
        return np.concatenate(parts).astype(np.float32)
    half = columns / 2
    s = (np.arange(columns) - (columns - 1) / 2) / half
    out = np.zeros((len(theta), columns))
    for value, a, b, x, y, turn in ELLIPSES:
        t = theta[:, None] - np.deg2rad(turn)
        width2 = (a * np.cos(t)) ** 2 + (b * np.sin(t)) ** 2
        place = s - x * np.cos(theta)[:, None] - y * np.sin(theta)[:, None]
        out += 2 * value * a * b / width2 * np.sqrt(np.maximum(width2 - place**2, 0)) * half
    return out.astype(np.float32)


def phantom(columns: int, finer: int = 4) -> np.ndarray:
    """The slice (y, x), averaged over each pixel."""
    fine = columns * finer
    place = ((np.arange(fine) - (fine - 1) / 2) / (fine / 2)).astype(np.float32)
    out = np.zeros((columns, columns), np.float32)
    for rows in np.array_split(np.arange(columns), 16):
        part = slice(rows[0] * finer, (rows[-1] + 1) * finer)
        y, x = place[part, None], place[None]
        picture = np.zeros((y.size, fine), np.float32)
        for value, a, b, cx, cy, turn in ELLIPSES:
            c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
            u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
            picture += value * ((u / a) ** 2 + (v / b) ** 2 <= 1)
        out[rows] = picture.reshape(len(rows), finer, columns, finer).mean(axis=(1, 3))
    return out


def best(work: Callable[[], Any], times: int, clock: Callable[[], float]) -> tuple[float, Any]:
    """Least seconds of some runs, and the last result."""
    seconds = []
    for _ in range(times):
        began = clock()
        result = work()
        seconds.append(clock() - began)
    return min(seconds), result


def fft_seconds(angles: int, length: int, size: int) -> float:
    """CPU seconds a slice of the transforms alone: projections, and the whole half plane."""
    shown = np.zeros((angles, length), np.float32)
    plane = np.zeros((size, size // 2 + 1), np.complex64)
    one = best(lambda: scipy.fft.rfft(shown), 3, time.process_time)[0]
    return one + best(lambda: scipy.fft.irfft2(plane, (size, size)), 3, time.process_time)[0]


def compare(angles: int, columns: int) -> dict[str, Any]:
    """Backends and algotom on one size."""
    from algotom.rec.reconstruction import fbp_reconstruction

    theta = np.arange(angles) * np.pi / angles
    shown, truth = sinogram(theta, columns), phantom(columns)
    y, x = np.mgrid[:columns, :columns] - (columns - 1) / 2
    disc = np.hypot(y, x) < 0.9 * columns / 2
    axis = (columns - 1) / 2

    def error(picture: np.ndarray) -> float:
        return float(np.sqrt(np.mean((picture - truth)[disc] ** 2)))

    def peer(shown: np.ndarray = shown) -> np.ndarray:
        return np.asarray(fbp_reconstruction(
            shown, axis, angles=theta, ratio=1.0, filter_name=None, gpu=False, ncore=1,
            apply_log=False,
        ))  # fmt: skip

    fbp_reconstruction(
        shown[:8, :16].copy(), 7.5, angles=theta[:8], filter_name=None, gpu=False, ncore=1
    )  # compiles
    peer_s, picture = best(peer, 2 if columns <= 1024 else 1, time.process_time)
    # algotom's y may run the other way; the phantom is not symmetric.
    peer_error = min(error(picture), error(picture[::-1]))
    found: dict[str, Any] = {"algotom_fbp": {"seconds": peer_s, "rmse": peer_error}}
    points = sinogram(theta, columns, 1)
    picture = peer(points)
    points_error = min(error(picture), error(picture[::-1]))
    slab = np.repeat(shown[:, None], SLAB, axis=1)
    axes = np.full(SLAB, axis)
    geometry = Geometry(np.rad2deg(theta), columns, "ramp", False)
    floor = fft_seconds(angles, geometry.spokes.length, geometry.size)
    found["ffts"] = {"seconds": floor}
    for name in ("gridder", "finufft"):
        settings = Recon(backend=name, roi_extend=False)  # type: ignore[arg-type]
        one = make_backend(settings, np.rad2deg(theta), columns, 1)
        one(slab[:, :8], axes[:8])  # compiles
        cpu, made = best(lambda one=one: one(slab, axes), 3, time.process_time)
        entry = {
            "seconds": cpu / SLAB,
            "rmse": error(made[0]),
            "times_faster": peer_s / (cpu / SLAB),
            "rmse_ratio": error(made[0]) / peer_error,
            "times_ffts": cpu / SLAB / floor,
            "rmse_ratio_point_sampled": error(one(points[:, None], axes[:1])[0]) / points_error,
        }
        if (os.cpu_count() or 1) > 1:
            two = make_backend(settings, np.rad2deg(theta), columns, 2)
            wall = [best(lambda b=b: b(slab, axes), 3, time.perf_counter)[0] for b in (one, two)]
            entry["two_cores"] = wall[0] / wall[1]
        found[name] = entry
    found["stripes"] = stripes(shown)
    return found


def stripes(shown: np.ndarray) -> dict[str, float]:
    """CPU seconds of a sinogram's stripe removal by sorting, against algotom's."""
    from algotom.prep.removal import remove_stripe_based_sorting

    noise = np.random.default_rng(0).normal(0, 1, shown.shape).astype(np.float32)
    dirty = shown + noise
    settings = Rings(method="sorting")
    remove_stripes(dirty[:8, None, :64], settings)  # compiles
    ours = best(lambda: remove_stripes(dirty[:, None], settings), 3, time.process_time)[0]
    theirs = best(
        lambda: remove_stripe_based_sorting(dirty, size=settings.size), 1, time.process_time
    )[0]
    return {"seconds": ours, "times_faster": theirs / ours}


def job(angles: int, rows: int, columns: int, threads: int) -> dict[str, Any]:
    """`tessera recon` from file to file: seconds, memory, where the time goes."""
    theta = np.arange(angles) * np.pi / angles
    shown = sinogram(theta, columns) * (2.0 / columns)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.h5"
        with h5py.File(scan, "w") as file:
            shape = (angles, rows, columns)
            data = file.create_dataset("exchange/data", shape, "uint16", chunks=(16, 16, columns))
            for first in range(0, angles, 16):
                part = np.exp(-shown[first : first + 16, None]) * 40000
                noise = rng.normal(0, 100, (len(part), rows, columns)).astype(np.float32)
                data[first : first + 16] = np.clip(part + noise, 0, 65535)
            flats = np.full((10, rows, columns), 40000, np.uint16)
            file["exchange/data_white"] = flats
            file["exchange/data_dark"] = np.zeros_like(flats)
            file["exchange/theta"] = np.rad2deg(theta)
        settings = Recon(pixel_um=1.0, axis=Axis(column=(columns - 1) / 2))
        words = ["recon", "--settings", section_json(settings),
                 "--threads", str(threads), str(scan), str(Path(folder) / "tile")]  # fmt: skip
        # The command itself, with the seconds that its steps take noted on the way.
        code = (
            "import collections, json, sys, time\n"
            "from tessera.cli import main\n"
            "from tessera.compute.measure import peak_mib\n"
            "from tessera.recon import slab, tile\n"
            "spent = collections.Counter()\n"
            "def timed(name, work):\n"
            "    def run(*a, **k):\n"
            "        began = time.perf_counter()\n"
            "        try: return work(*a, **k)\n"
            "        finally: spent[name] += time.perf_counter() - began\n"
            "    return run\n"
            "for name in ('_compute', '_read'):\n"
            "    setattr(tile.Slabs, name, timed(name, getattr(tile.Slabs, name)))\n"
            "for name in ('transmission', 'to_integrals', 'remove_stripes'):\n"
            "    setattr(slab, name, timed(name, getattr(slab, name)))\n"
            "began = time.perf_counter()\n"
            "code = main(sys.argv[1:])\n"
            "spent['all'] = time.perf_counter() - began\n"
            "print('MEASURED', json.dumps({'peak_gib': peak_mib() / 1024, **spent}))\n"
            "sys.exit(code)\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
        ).stdout
    measured = json.loads(said.split("MEASURED")[1])
    return {
        "scan": f"{angles} x {rows} x {columns} uint16",
        "threads": threads,
        "seconds": measured["all"],
        "peak_gib": measured["peak_gib"],
        # Reading the next slab and writing the last one go on beside it.
        "share_computing": measured["_compute"] / measured["all"],
        "share_correcting": (measured["transmission"] + measured["to_integrals"]) / measured["all"],
        "share_stripes": measured["remove_stripes"] / measured["all"],
        "seconds_reading": measured["_read"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["721x1024", "1501x2048"])
    parser.add_argument("--rows", type=int, default=256, help="of the job")
    parser.add_argument("--threads", type=int, default=2, help="of the job")
    parser.add_argument("--no-job", action="store_true")
    args = parser.parse_args()
    path = HERE / "results/recon.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for size in args.sizes:
        angles, columns = map(int, size.split("x"))
        results[size] = compare(angles, columns)
        print(size, json.dumps(results[size], indent=1), flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    if not args.no_job:
        results["job"] = job(1501, args.rows, 2048, args.threads)
        print("job", json.dumps(results["job"], indent=1), flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

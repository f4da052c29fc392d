"""A mosaic of projections against an untiled scan of the same specimen, from file to slices.

A specimen of spheres is scanned once by a detector that sees all of it, and once in 2 x 2 tiles of
one rotation axis, off by up to two pixels from where the stage says. The tiles are stitched, both
scans are reconstructed by `tessera recon`, each about the axis that is found in it, and the slices
are correlated. Projections are exact, with the noise of some 30,000 counts of their own each; what
two untiled scans have in common is the most that can be reached.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np

from tessera.config import Mosaic, Recon
from tessera.mosaic.project import stitch
from tessera.recon.command import reconstruct
from tessera.volume.box import Box
from tessera.volume.store import open_volume

ANGLES, ROWS, COLUMNS, AXIS = 361, 60, 240, 118.7
TILE = (36, 130)
PIXEL_UM, BEAM = 2.0, 30000.0
PLACES = {"a": (0.0, 0.0), "b": (0.6, 107.3), "c": (22.4, -1.2), "d": (23.7, 108.5)}  # row, column
NOMINAL = {"a": (0.0, 0.0), "b": (0.0, 106.0), "c": (21.0, 0.0), "d": (25.0, 108.0)}
SETUP = "measurement/instrument/sample_motor_stack/setup"


def integrals(place: tuple[float, float], shape: tuple[int, int]) -> np.ndarray:
    """Line integrals (angles, rows, columns) of the spheres, seen from a sub-pixel place."""
    rng = np.random.default_rng(1)
    theta = np.arange(ANGLES) * np.pi / ANGLES
    rows = np.arange(shape[0]) + place[0]
    columns = np.arange(shape[1]) + place[1]
    out = np.zeros((ANGLES, *shape), np.float32)
    for _ in range(160):
        turn, away = rng.uniform(0, 2 * np.pi), 95 * np.sqrt(rng.uniform())
        z, radius = rng.uniform(-8, ROWS + 8), rng.uniform(4, 14)
        middle = AXIS + away * np.cos(theta - turn)
        square = radius**2 - (rows[None, :, None] - z) ** 2
        square = square - (columns[None, None] - middle[:, None, None]) ** 2
        out += 2 * np.sqrt(np.maximum(square, 0)).astype(np.float32)
    return 0.012 * out


def write(
    path: Path, place: tuple[float, float], shape: tuple[int, int], nominal: tuple[float, float]
) -> Path:
    """Write one scan as Data Exchange; ``nominal`` (row, column) is where the stage says."""
    rng = np.random.default_rng(list(path.stem.encode()))
    beam = BEAM * rng.uniform(0.8, 1.2, shape)
    middle = (np.array(nominal) + (np.array(shape) - 1) / 2) * PIXEL_UM
    with h5py.File(path, "w") as file:
        seen = rng.poisson(beam * np.exp(-integrals(place, shape)))
        file["exchange/data"] = (100 + seen).astype(np.uint16)
        flats = rng.poisson(beam, (20, *shape))
        file["exchange/data_white"] = (100 + flats).astype(np.uint16)
        file["exchange/data_dark"] = np.full((4, *shape), 100, np.uint16)
        file["exchange/theta"] = np.arange(ANGLES) * 180 / ANGLES
        file["exchange/theta"].attrs["units"] = "degrees"
        lengths = {f"{SETUP}/y": middle[0], f"{SETUP}/z": 0.0, f"{SETUP}/x": middle[1]}
        lengths["measurement/instrument/detector/pixel_size"] = PIXEL_UM
        for name, value in lengths.items():
            file[name] = float(value)
            file[name].attrs["units"] = "um"
    return path


def slices(scan: Path, out: Path) -> np.ndarray:
    """Reconstruct a scan (z, y, x), in 1/cm."""
    reconstruct(scan, out, Recon())
    volume = open_volume(out / "tile.zarr")
    return volume.read(Box.whole(volume.shape))


def wide() -> dict[str, float]:
    """Correlation and relative mean difference of the slices, within what all of them see."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scans = [write(root / f"{n}.h5", p, TILE, NOMINAL[n]) for n, p in PLACES.items()]
        stitch(scans, root / "wide.h5", Mosaic(kind="projections"))
        for name in ("untiled", "again"):
            write(root / f"{name}.h5", (0.0, 0.0), (ROWS, COLUMNS), (0.0, 0.0))
        mosaic, untiled, again = (
            slices(root / f"{n}.h5", root / n) for n in ("wide", "untiled", "again")
        )
    # All slices have the axis in their middle; rows count from the first tile's.
    rows = min(len(mosaic), len(untiled)) - 2
    side = min(mosaic.shape[1], untiled.shape[1])
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = np.hypot(y, x) < 105
    one, other, third = (_middle(v, side)[2:rows, inside] for v in (mosaic, untiled, again))
    return {
        "correlation": float(np.corrcoef(one.ravel(), other.ravel())[0, 1]),
        "correlation_of_two_untiled": float(np.corrcoef(third.ravel(), other.ravel())[0, 1]),
        "mean_difference": float(np.mean(one - other) / np.mean(other)),
    }


def _middle(volume: np.ndarray, side: int) -> np.ndarray:
    """The middle columns of slices, moved by half a pixel where the widths' parities differ."""
    from scipy.ndimage import shift

    extra = (volume.shape[1] - side) / 2
    if extra % 1:
        volume = shift(volume, (0, -0.5, -0.5), order=3, mode="nearest")
    first = int(extra)
    return volume[:, first : first + side, first : first + side]

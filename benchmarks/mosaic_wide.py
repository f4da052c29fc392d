"""A mosaic of projections against an untiled scan of the same specimen, from file to slices.

A specimen of spheres is scanned once by a detector that sees all of it, and once in 2 x 2 tiles of
one rotation axis, off by up to two pixels from where the stage says. The tiles are stitched, both
scans are reconstructed by `tessera recon`, each about the axis that is found in it, and the slices
are correlated. Projections have the noise of some 30,000 counts of their own each; what two untiled
scans have in common is the most that can be reached.

A pixel counts what falls on its area, as in `tessera simulate`: the mean over rays that cross it.
With one ray through its middle (``points``) a sphere's edge is finer than the pixels, no scan tells
where between two of them it lies, and no shift restores it. What the place of the pixels alone does
to slices is told by an untiled scan that stood a third of a column ``aside``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tessera.config import Mosaic, Recon
from tessera.mosaic.project import stitch
from tessera.recon.command import reconstruct
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tests.mosaic.exchange import write_scan

ANGLES, ROWS, COLUMNS, AXIS = 361, 60, 240, 118.7
TILE, WHOLE = (36, 130), (ROWS, COLUMNS)
BEAM = 30000.0
PLACES = {"a": (0.0, 0.0), "b": (0.6, 107.3), "c": (22.4, -1.2), "d": (23.7, 108.5)}  # row, column
NOMINAL = {"a": (0.0, 0.0), "b": (0.0, 106.0), "c": (21.0, 0.0), "d": (25.0, 108.0)}
UNTILED = {"untiled": (0.0, 0.0), "again": (0.0, 0.0), "aside": (0.0, -0.35)}


def transmission(place: tuple[float, float], shape: tuple[int, int], rays: int) -> np.ndarray:
    """What the spheres let through (angles, rows, columns), seen from a sub-pixel place.

    Args:
        place: row and column of the first pixel's middle.
        shape: rows and columns.
        rays: along each side of a pixel, over which it is the mean.
    """
    rng = np.random.default_rng(1)
    theta = np.arange(ANGLES) * np.pi / ANGLES
    within = (np.arange(rays) + 0.5) / rays - 0.5
    rows, columns = (
        (p + np.arange(n)[:, None] + within).ravel() for p, n in zip(place, shape, strict=True)
    )
    lengths = np.zeros((ANGLES, len(rows), len(columns)), np.float32)
    for _ in range(160):
        turn, away = rng.uniform(0, 2 * np.pi), 95 * np.sqrt(rng.uniform())
        z, radius = rng.uniform(-8, ROWS + 8), rng.uniform(4, 14)
        middle = AXIS + away * np.cos(theta - turn)
        first, last = np.searchsorted(rows, (z - radius, z + radius))
        high = radius**2 - (rows[first:last, None] - z) ** 2
        left, right = (np.searchsorted(columns, middle + side) for side in (-radius, radius))
        for plane, m, low, top in zip(lengths, middle, left, right, strict=True):
            square = high - (columns[low:top] - m) ** 2
            plane[first:last, low:top] += 2 * np.sqrt(np.maximum(square, 0))
    through = np.exp(-0.012 * lengths).reshape(ANGLES, shape[0], rays, shape[1], rays)
    return np.asarray(through.mean(axis=(2, 4)), np.float64)


def write(
    path: Path,
    place: tuple[float, float],
    shape: tuple[int, int],
    nominal: tuple[float, float],
    rays: int,
) -> Path:
    """Write one scan as Data Exchange; ``nominal`` (row, column) is where the stage says."""
    rng = np.random.default_rng(list(path.stem.encode()))
    beam = BEAM * rng.uniform(0.8, 1.2, shape)
    seen = rng.poisson(beam * transmission(place, shape, rays))
    return write_scan(path, seen, rng.poisson(beam, (20, *shape)), nominal)


def slices(scan: Path, out: Path) -> np.ndarray:
    """Reconstruct a scan (z, y, x), in 1/cm."""
    reconstruct(scan, out, Recon())
    volume = open_volume(out / "tile.zarr")
    return volume.read(Box.whole(volume.shape))


def wide() -> dict[str, object]:
    """Compare with pixels that count over their area; beside it, with points for pixels."""
    return {**compare(rays=4), "points": compare(rays=1)}


def compare(rays: int) -> dict[str, float]:
    """Correlation and relative mean difference of the slices, within what all of them see."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scans = [write(root / f"{n}.h5", p, TILE, NOMINAL[n], rays) for n, p in PLACES.items()]
        stitch(scans, root / "wide.h5", Mosaic(kind="projections"))
        for name, place in UNTILED.items():
            write(root / f"{name}.h5", place, WHOLE, (0.0, 0.0), rays)
        found = {n: slices(root / f"{n}.h5", root / n) for n in ("wide", *UNTILED)}
    # All slices have the axis in their middle; rows count from the first tile's.
    rows = min(len(v) for v in found.values()) - 2
    side = min(v.shape[1] for v in found.values())
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside = np.hypot(y, x) < 105
    seen = {n: _middle(v, side)[2:rows, inside].ravel() for n, v in found.items()}
    untiled = seen.pop("untiled")
    common = {n: float(np.corrcoef(v, untiled)[0, 1]) for n, v in seen.items()}
    return {
        "correlation": common["wide"],
        "correlation_of_two_untiled": common["again"],
        "correlation_of_two_untiled_one_aside": common["aside"],
        "mean_difference": float(np.mean(seen["wide"] - untiled) / np.mean(untiled)),
    }


def _middle(volume: np.ndarray, side: int) -> np.ndarray:
    """The middle columns of slices, moved by half a pixel where the widths' parities differ."""
    from scipy.ndimage import shift

    extra = (volume.shape[1] - side) / 2
    if extra % 1:
        volume = shift(volume, (0, -0.5, -0.5), order=3, mode="nearest")
    first = int(extra)
    return volume[:, first : first + side, first : first + side]

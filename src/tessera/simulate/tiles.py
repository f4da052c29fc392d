"""The grid of tiles: how large, where the stage says they are, and where they really are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tessera.config import Simulate

Vector = tuple[float, float, float]
_RIM = 4  # columns beyond the circle: the first and last are seldom as good


@dataclass(frozen=True)
class TilePlan:
    """One tile of the grid.

    Attributes:
        name: ``tile_z0_y0_x1``.
        rows, columns: detector pixels.
        nominal_um: where the stage says the rotation axis and the middle row are (z, y, x).
        true_um: where they are; equal for the first tile, which anchors the frame.
        axis: true column of the rotation axis (pixel-centre index).
    """

    name: str
    rows: int
    columns: int
    nominal_um: Vector
    true_um: Vector
    axis: float


def tile_grid(settings: Simulate) -> dict[str, TilePlan]:
    r"""Return the tiles by name.

    Each tile has a rectangle of ``settings.shape``, neighbours' overlap by ``overlap_vox``. The
    detector is as wide as the circle about the rectangle, wherever axis and stage are, so that all
    of the rectangle is seen from all sides; the tile's slice reaches beyond it::

           .-------.
         /+---------+\
        | |rectangle| |   circle: what all projections see
         \+---------+/
           '-------'
    """
    shape, counts, overlap = settings.shape, settings.tiles, settings.overlap_vox
    sizes = [math.ceil((n + (c - 1) * overlap) / c) for n, c in zip(shape, counts, strict=True)]
    off = settings.axis_error_vox + math.sqrt(2) * settings.stage_error_vox
    columns = math.ceil(math.hypot(sizes[1], sizes[2]) + 2 * off) + _RIM
    rng = np.random.default_rng([settings.seed, 1])
    plans: dict[str, TilePlan] = {}
    for z in range(counts[0]):
        for y in range(counts[1]):
            for x in range(counts[2]):
                place = [
                    (i * (s - overlap) + (s - 1) / 2) for i, s in zip((z, y, x), sizes, strict=True)
                ]
                # One draw a tile, used or not, so that tiles do not depend on each other.
                error = rng.uniform(-1, 1, 3) * settings.stage_error_vox
                axis_error = rng.uniform(-1, 1) * settings.axis_error_vox
                if not plans:
                    error = np.zeros(3)
                name = f"tile_z{z}_y{y}_x{x}"
                pixel = settings.voxel_um
                plans[name] = TilePlan(
                    name,
                    sizes[0],
                    columns,
                    _um(np.array(place) + error, pixel),
                    _um(np.array(place), pixel),
                    (columns - 1) / 2 + float(axis_error),
                )
    return plans


def frame(settings: Simulate) -> tuple[tuple[int, int, int], Vector]:
    """Return shape (z, y, x) and origin (um) of the fused volume: the box of the nominal tiles.

    Its lattice is the first tile's own.
    """
    plans = list(tile_grid(settings).values())
    pixel = settings.voxel_um
    half = np.array([(plans[0].rows - 1) / 2] + [(plans[0].columns - 1) / 2] * 2)
    size = np.array([plans[0].rows, plans[0].columns, plans[0].columns])
    offsets = np.array([np.subtract(p.nominal_um, plans[0].nominal_um) / pixel for p in plans])
    start = np.floor(offsets.min(axis=0) + 0.5)
    stop = np.floor((offsets + size).max(axis=0) + 0.5)
    origin = np.array(plans[0].nominal_um) / pixel - half + start
    z, y, x = (int(n) for n in stop - start)
    return (z, y, x), _um(origin, pixel)


def field(settings: Simulate) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return start and stop (z, y, x) of the field in voxels of the fused volume.

    The last rows of several tiles along z can lie beyond it, by the stage's error.
    """
    fused, origin_um = frame(settings)
    start = [math.ceil(-o / settings.voxel_um - 1e-6) for o in origin_um]
    stop = [min(a + n, f) for a, n, f in zip(start, settings.shape, fused, strict=True)]
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _um(vox: np.ndarray, pixel_um: float) -> Vector:
    z, y, x = (float(v) * pixel_um for v in vox)
    return z, y, x

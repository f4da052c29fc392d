"""Where two tiles overlap, and the regions of the overlap that are looked at.

An overlap may be larger than memory, so it is looked at in *regions* of bounded size, spread
evenly over it; each measures the shift for itself. Boxes are on the lattice (see ``tile``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from tessera.mosaic.tile import Tile, Vector
from tessera.volume.box import Box

REGION = 64  # side of a region in voxels, at most
_PER_AXIS = 4  # regions along an axis, at most
SMALLEST = 8  # an overlap thinner than this along y or x says nothing


@dataclass(frozen=True)
class Pair:
    """Two tiles, by their numbers in name order, that overlap at their nominal places.

    Attributes:
        a, b: numbers of the tiles, a < b.
        box: the overlap on the lattice, in whole voxels.
    """

    a: int
    b: int
    box: Box


def tile_box(tile: Tile) -> Box:
    """Return a tile's nominal box on the lattice, its place rounded to whole voxels."""
    start = np.floor(np.array(tile.offset) + 0.5)
    return Box.of(tuple(start), tuple(start + tile.shape))


def find_pairs(tiles: list[Tile], margin: int = 0) -> list[Pair]:
    """Return all pairs of tiles that overlap, or may if places are off by ``margin`` voxels.

    With circles (of true reconstruction) it is these that must overlap.
    """
    pairs = []
    for a, b in itertools.combinations(range(len(tiles)), 2):
        box = overlap_box(tiles[a], tiles[b], (0.0, 0.0, 0.0), margin)
        z, y, x = box.shape
        enough_z = z >= min(SMALLEST, tiles[a].shape.z)
        if enough_z and min(y, x) >= SMALLEST:
            pairs.append(Pair(a, b, box))
    return pairs


def overlap_box(a: Tile, b: Tile, shift: Vector, margin: int = 0) -> Box:
    """Return the box of what both tiles show truly, if b is moved by ``shift`` from its place.

    The box is that of the lens that the two circles have in common, or of the common cuboid;
    ``margin`` enlarges it on the sides where only one of the tiles ends.
    """
    move = np.floor(np.array(shift) + 0.5)
    box_a, box_b = tile_box(a), tile_box(b).shift(tuple(move))
    common = box_a.grow((margin,) * 3).intersect(box_b.grow((margin,) * 3))
    common = common.intersect(_hull(box_a, box_b))
    if a.radius_vox is None or b.radius_vox is None or common.empty:
        return common
    lens = _lens(_centre(box_a), _centre(box_b), a.radius_vox + margin, b.radius_vox + margin)
    if lens is None:
        return Box.of(common.start, common.start)
    low, high = lens
    return common.intersect(
        Box.of(
            (common.start.z, *np.ceil(low)),
            (common.stop.z, *(np.floor(high) + 1)),
        )
    )


def _hull(a: Box, b: Box) -> Box:
    return Box.of(
        tuple(min(p) for p in zip(a.start, b.start, strict=True)),
        tuple(max(p) for p in zip(a.stop, b.stop, strict=True)),
    )


def _centre(box: Box) -> np.ndarray:
    """(y, x) of a tile's rotation axis on the lattice."""
    return (np.array(box.start[1:]) + np.array(box.stop[1:]) - 1) / 2


def _lens(
    p: np.ndarray, q: np.ndarray, radius_p: float, radius_q: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounding box (low, high) of the common part of two discs, or None if there is none.

    The extreme points of a lens are extreme points of one disc that lie in the other, or the two
    points where the circles cross.
    """
    gap = float(np.hypot(*(q - p)))
    if gap >= radius_p + radius_q:
        return None
    points = []
    for centre, radius, other, reach in ((p, radius_p, q, radius_q), (q, radius_q, p, radius_p)):
        for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            point = centre + radius * np.array(step)
            if np.hypot(*(point - other)) <= reach + 1e-9:
                points.append(point)
    if gap > abs(radius_p - radius_q):
        along = (gap**2 + radius_p**2 - radius_q**2) / (2 * gap)
        across = np.sqrt(max(radius_p**2 - along**2, 0.0))
        unit = (q - p) / gap
        for side in (-across, across):
            points.append(p + along * unit + side * np.array([-unit[1], unit[0]]))
    return np.min(points, axis=0), np.max(points, axis=0)


def regions(box: Box) -> list[Box]:
    """Return regions of at most ``REGION`` voxels a side, spread evenly over a box."""
    spans: list[list[tuple[int, int]]] = []
    for start, stop in zip(box.start, box.stop, strict=True):
        extent = stop - start
        count = min(_PER_AXIS, -(-extent // REGION))
        side = min(REGION, -(-extent // count)) if count else 0
        firsts = np.linspace(start, stop - side, count).round()
        spans.append([(int(f), int(f) + side) for f in firsts])
    return [
        Box.of(tuple(s[0] for s in span), tuple(s[1] for s in span))
        for span in itertools.product(*spans)
    ]


def true_mask(tile: Tile, box: Box, shift: Vector = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Return where a tile is true within a box on the lattice: in its bounds and its circle.

    Returns:
        bool (z, y, x), as the box.
    """
    place = tile_box(tile).shift(tuple(np.floor(np.array(shift) + 0.5)))
    z, y, x = (np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True))
    inside = [
        (c >= a) & (c < b) for c, a, b in zip((z, y, x), place.start, place.stop, strict=True)
    ]
    across = inside[1][:, None] & inside[2][None, :]
    if tile.radius_vox is not None:
        cy, cx = _centre(place)
        across &= np.hypot((y - cy)[:, None], (x - cx)[None, :]) <= tile.radius_vox
    return inside[0][:, None, None] & across[None]

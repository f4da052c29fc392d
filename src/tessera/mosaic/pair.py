"""One pair of tiles, measured: shift, how well it is known, and what else the overlap tells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tessera.mosaic import shift as shifts
from tessera.mosaic.overlap import Pair, overlap_box, regions, tile_box, true_mask
from tessera.mosaic.tile import Tile, Vector, to_vector
from tessera.mosaic.turn import Turn, find_turn
from tessera.volume.box import Box

_COARSE_REGIONS = 12  # regions that vote on the whole shift; a shift is the same everywhere
_RECENTRED = 2  # times that the whole shift may be put right by the fine step
_CENTRED = 0.6  # ... where that leaves more than this, in voxels
_FLOOR_VOX = 0.02  # no shift is known better than this, whatever the noise says
_VOTE_VOX = 0.5  # a region may always differ this much from the median
_FEWEST = 50  # common voxels of a region
_SMOOTH = 2.0  # sigma in voxels of the pictures whose brightness is compared


@dataclass
class Moments:
    """Sums over the common voxels of two tiles, for matching their brightness."""

    count: float = 0.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(2))
    products: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add the values of common voxels."""
        both = np.stack([a, b]).astype(np.float64)
        self.count += both.shape[1]
        self.sums += both.sum(axis=1)
        self.products += both @ both.T

    @property
    def mean(self) -> np.ndarray:
        """Mean of a and of b."""
        return self.sums / max(self.count, 1.0)

    @property
    def covariance(self) -> np.ndarray:
        """2 x 2 covariance of a and b."""
        return self.products / max(self.count, 1.0) - np.outer(self.mean, self.mean)


@dataclass(frozen=True)
class Measured:
    """A pair's shift.

    Attributes:
        pair: the tiles and their nominal overlap.
        shift: correction of b's place relative to a's (z, y, x) in voxels: solved minus nominal.
        quality: correlation after the shift, 0 to 1.
        information: inverse covariance of the shift, 1/voxel^2.
        agreed: regions that agreed, and regions looked at.
        spread_vox: how far the regions that agreed differ (root mean square).
        turn: rotation and scale, where there are regions enough to tell.
        moments: brightness of both.
        inside: the shift lies within reach, not on its edge.
    """

    pair: Pair
    shift: Vector
    quality: float
    information: np.ndarray
    agreed: tuple[int, int]
    spread_vox: float
    turn: Turn | None
    moments: Moments
    inside: bool


@dataclass(frozen=True)
class _Looked:
    """What the regions of an overlap tell, all read at one whole shift.

    Attributes:
        count: regions where both tiles show something.
        kept, centres: those that agree, and the middle of each on the lattice.
        information, mean: inverse covariance of their shift, and the shift.
        moments: brightness of both tiles in all regions.
    """

    count: int
    kept: list[shifts.Fine]
    centres: np.ndarray
    information: np.ndarray
    mean: np.ndarray
    moments: Moments


def measure(tiles: list[Tile], pair: Pair, reach_vox: float) -> Measured:
    """Measure a pair's shift by regions of its overlap; reads these alone.

    Args:
        tiles: all tiles.
        pair: the two of them.
        reach_vox: how far the pair's places may be off, per axis.
    """
    a, b = tiles[pair.a], tiles[pair.b]
    whole, score, inside = _coarse(a, b, reach_vox)
    looked = _look(a, b, whole, believed=score > 0)
    for _ in range(_RECENTRED):
        rest = np.where(np.abs(looked.mean) > _CENTRED, np.rint(looked.mean), 0).astype(int)
        if not rest.any():
            break
        z, y, x = (int(w + r) for w, r in zip(whole, rest, strict=True))
        whole = (z, y, x)
        looked = _look(a, b, whole)
    kept, mean, moments = looked.kept, looked.mean, looked.moments
    agreed = (len(kept), looked.count)
    places = np.floor(np.array([a.offset, b.offset]) + 0.5)
    nominal = np.subtract(b.offset, a.offset)
    base = places[1] - places[0] + np.array(whole) - nominal
    if not kept:
        none = np.zeros((3, 3))
        quality = min(score, 0.0) if looked.count else max(score, 0.0) * 0.5
        shift = to_vector(base)
        return Measured(pair, shift, quality, none, agreed, 0.0, None, moments, inside)
    weights = np.array([np.trace(f.information) for f in kept])
    weights /= weights.sum()
    off = np.array([f.shift - mean for f in kept])
    spread = float(np.sqrt((weights[:, None] * off**2).sum()))
    covariance = np.linalg.pinv(looked.information) + np.eye(3) * (
        _FLOOR_VOX**2 + spread**2 / 3 / max(len(kept) - 1, 1)
    )
    return Measured(
        pair,
        to_vector(base + mean),
        float((weights * np.array([f.quality for f in kept])).sum()),
        np.linalg.inv(covariance),
        agreed,
        spread,
        find_turn(looked.centres, off, weights),
        moments,
        inside,
    )


def _coarse(a: Tile, b: Tile, reach_vox: float) -> tuple[tuple[int, int, int], float, bool]:
    """Whole shift of b's place, its correlation, and whether it lies within reach."""
    reach = int(np.ceil(reach_vox))
    z, y, x = (reach if n > 1 else 0 for n in a.shape)
    z = 0 if a.steady else z
    reaches = (z, y, x)
    found = shifts.Correlation(reaches)
    looked = regions(overlap_box(a, b, (0.0, 0.0, 0.0), reach))
    step = -(-len(looked) // _COARSE_REGIONS) if looked else 1
    for region in looked[step // 2 :: step]:
        # A region needs what b shows beyond it, or a large shift leaves nothing to compare.
        wide = region.grow(reaches)
        mask_a, mask_b = true_mask(a, wide), true_mask(b, wide)
        mask_a &= _within(wide, region)
        if mask_a.any() and mask_b.any():
            picture_a = shifts.band_pass(_read(a, wide, (0, 0, 0)), mask_a)
            picture_b = shifts.band_pass(_read(b, wide, (0, 0, 0)), mask_b)
            found.add(picture_a, mask_a, picture_b, mask_b)
    return found.best()


def _within(wide: Box, region: Box) -> np.ndarray:
    mask = np.zeros(wide.shape, bool)
    mask[region.inside(wide)] = True
    return mask


def _read(tile: Tile, box: Box, whole: tuple[int, int, int]) -> np.ndarray:
    """Voxels of a tile that is moved by ``whole`` from its place, in a box on the lattice."""
    place = tile_box(tile).shift(whole)
    return tile.volume.read(box.shift(tuple(-s for s in place.start))).astype(np.float32)


def _look(a: Tile, b: Tile, whole: tuple[int, int, int], believed: bool = True) -> _Looked:
    """Measure the regions of the overlap that b has if moved by ``whole``; none if not believed."""
    moments = Moments()
    found, centres = [], []
    for region in regions(overlap_box(a, b, to_vector(whole))) if believed else []:
        fine = _fine(a, b, region, whole, moments)
        if fine is not None:
            centres.append((np.array(region.start) + np.array(region.stop) - 1) / 2)
            found.append(fine)
    keep = _vote(found)
    kept = [found[i] for i in keep]
    information = sum((f.information for f in kept), np.zeros((3, 3)))
    pull = sum((f.information @ f.shift for f in kept), np.zeros(3))
    return _Looked(
        len(found),
        kept,
        np.array([centres[i] for i in keep]),
        information,
        np.linalg.pinv(information) @ pull,
        moments,
    )


def _fine(
    a: Tile, b: Tile, region: Box, whole: tuple[int, int, int], moments: Moments
) -> shifts.Fine | None:
    """Measure one region and add its brightness; None if the tiles have nothing in common there."""
    grow_a = (shifts.BAND_MARGIN,) * 3
    grow_b = (shifts.BAND_MARGIN + shifts.FINE_MARGIN,) * 3
    wide_a, wide_b = region.grow(grow_a), region.grow(grow_b)
    mask_a = true_mask(a, wide_a)
    mask_b = true_mask(b, wide_a, to_vector(whole))
    data_a, data_b = _read(a, wide_a, (0, 0, 0)), _read(b, wide_b, whole)
    in_a, back = region.inside(wide_a), wide_a.inside(wide_b)
    common = mask_a & mask_b
    if common[in_a].sum() < _FEWEST:
        return None
    fine = shifts.fine_shift(data_a, data_b, common, in_a, a.steady)
    # Brightness is compared voxel by voxel, or a slope across the overlap would pass for a gain.
    aligned = shifts.move(data_b, fine.shift) if fine.converged else data_b[back]
    bright = (shifts.smooth(d, common, _SMOOTH)[in_a] for d in (data_a, aligned))
    moments.add(*(values[common[in_a]] for values in bright))
    return fine


def _vote(found: list[shifts.Fine]) -> list[int]:
    """Return the regions that agree: near the median of those that came to rest."""
    rested = [i for i, f in enumerate(found) if f.converged and f.quality > 0]
    if not rested:
        return []
    moved = np.array([found[i].shift for i in rested])
    sure = np.array([np.sqrt(max(np.trace(found[i].information), 0.0)) for i in rested])
    middle = np.array([_weighted_median(column, sure) for column in moved.T])
    away = np.abs(moved - middle).max(axis=1)
    limit = max(_VOTE_VOX, 3 * 1.4826 * float(np.median(away)))
    return [i for i, distance in zip(rested, away, strict=True) if distance <= limit]


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])

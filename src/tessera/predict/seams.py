"""The seam score: can a block face be told from inside?

At a block face each voxel's step d to the next one is held against m, the mean of its steps two
planes before and after: (d - m) / (d + m). The mean of that over the voxels where anything steps is
e, and (1 + e) / (1 - e) by what factor the face steps more than what is beside it. So it is at the
nearest planes within the blocks that are alike to the network, and the score is the larger of the
two factors over the smaller: 1 where the block does not show. It counts both ways, because a block
that was given no halo may step less at its faces than inside: zeros behind a face damp both sides.

Voxel by voxel and beside: what lies at a face is not what lies some planes further, and the summed
steps of single planes of a real specimen differ by a tenth and more; these factors by two to eight
percent. So with the one or two faces of a small volume the score still says little.

Planes alike: a network that halves its maps, and doubles them again, steps more between some pairs
of planes than between others, over and over, whatever the block; faces are all at one place of that
pattern, so only planes at the same place say what a step inside is.
"""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_BESIDE = 2  # planes on each side
_ALIKE = 3  # planes on each side
_MOST = 0.999  # of e, up or down


def seam_score(
    volume: Volume, grid: Grid, align: tuple[int, int, int], least: float
) -> dict[str, float | list[float]]:
    """Return ``score`` and the score of each axis (z, y, x) of a prediction.

    Reads the planes about each face, one block's worth at a time.

    Args:
        volume: the prediction.
        grid: its blocks.
        align: voxels (z, y, x) after which the network's pattern begins anew: its blocks' grid.
        least: d + m of a voxel that steps, so that rounding is no step.
    """
    sums = np.zeros((3, 4))  # of each axis, at faces and inside: of the voxels' shares, and voxels
    for block in grid:
        for axis, side in enumerate(grid.block):
            face = block.write.start[axis]
            alike = _alike(face, align[axis], side, volume.shape[axis])
            if not face or not alike:
                continue
            first, last = min(face, *alike) - 1 - _BESIDE, max(face, *alike) + 1 + _BESIDE
            start, stop = list(block.write.start), list(block.write.stop)
            start[axis], stop[axis] = first, last
            values = volume.read(Box.of(tuple(start), tuple(stop))).astype(np.float32)
            steps = np.abs(np.diff(np.moveaxis(values, axis - 3, 0), axis=0))
            at, *inside = (_shares(steps, plane - first - 1, least) for plane in (face, *alike))
            sums[axis] += [*at, *np.mean(inside, axis=0)]
    axes = [_differ(*own) for own in sums]
    return {"score": _differ(*sums.sum(axis=0)), "axes": axes}


def _alike(face: int, align: int, side: int, size: int) -> list[int]:
    """Planes near a face that are alike to it, and lie within a block with those beside them."""
    least = 2 * _BESIDE + 1
    apart = min(-(-least // align) * align, side // 2)
    away = [sign * n * apart for n in range(1, _ALIKE + 1) for sign in (-1, 1)]
    return [
        face + a
        for a in away
        if abs(a) <= side // 2 and 1 + _BESIDE <= face + a <= size - 1 - _BESIDE
    ]


def _shares(steps: np.ndarray, at: int, least: float) -> tuple[float, int]:
    """Return the sum of (d - m) / (d + m) over voxels of a plane that step, and their number."""
    beside = [steps[at + sign * n] for n in range(1, _BESIDE + 1) for sign in (-1, 1)]
    own, mean = steps[at], sum(beside) / len(beside)
    both = own + mean
    kept = both >= least
    return float(((own - mean)[kept] / both[kept]).sum(dtype=np.float64)), int(kept.sum())


def _differ(face: float, face_voxels: float, inside: float, inside_voxels: float) -> float:
    """Return by what factor two planes' steps differ; 1 if there is no face, or no step."""
    if not face_voxels and not inside_voxels:
        return 1.0
    # An e of 1 or -1 (steps nowhere but at faces, or nowhere there) would be beyond any number.
    shares = (face / max(face_voxels, 1), inside / max(inside_voxels, 1))
    bounded = [min(max(e, -_MOST), _MOST) for e in shares]
    lower, upper = sorted((1 + e) / (1 - e) for e in bounded)
    return float(upper / lower)

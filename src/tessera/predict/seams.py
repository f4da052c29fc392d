"""The seam score: can a block face be told from inside?

At a block face each voxel's step d to the next one is held against m, the mean of its steps two
planes before and after: (d - m) / (d + m). The mean of that over the voxels where anything steps is
e, and (1 + e) / (1 - e) by what factor the face steps more than what is beside it. So it is at the
nearest planes within the blocks that are alike to the network, and the score is the larger of the
two factors over the smaller: 1 where the block does not show. It counts both ways, because a block
that was given no halo may step less at its faces than inside: zeros behind a face damp both sides.

Voxel by voxel and beside: what lies at a face is not what lies some planes further, and the summed
steps of single planes of a real specimen differ by a tenth and more; these factors by two to eight
percent. So the one or two faces of a small volume say little, and an interval says how little: by
how much the planes inside differ among themselves (with k of them about a face, Student's t of all
their degrees of freedom), so much may a face differ from them by chance. One that reaches down to 1
says that no face can be told from inside.

Planes alike: a network that halves its maps, and doubles them again, steps more between some pairs
of planes than between others, over and over, whatever the block; faces are all at one place of that
pattern, so only planes at the same place say what a step inside is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_BESIDE = 2  # planes on each side
_ALIKE = 3  # planes on each side
_MOST = 0.999  # of e, up or down
_LEVEL = 0.95


def seam_score(
    volume: Volume, grid: Grid, align: tuple[int, int, int], least: float
) -> dict[str, float | int | list[float]]:
    """Return ``score`` of a prediction, its 95 % interval, faces and the axes' own scores.

    Reads the planes about each face, one block's worth at a time.

    Args:
        volume: the prediction.
        grid: its blocks.
        align: voxels (z, y, x) after which the network's pattern begins anew: its blocks' grid.
        least: d + m of a voxel that steps, so that rounding is no step.

    Returns:
        ``score``, ``low`` and ``high`` (not where nothing says how much planes differ), the number
        of ``faces``, whole planes, and the scores of the ``axes`` (z, y, x).
    """
    faces: dict[tuple[int, int], _Face] = {}
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
            own = faces.setdefault((axis, face), _Face(np.zeros((len(alike), 2))))
            own.at += at
            own.inside += inside
    axes = [[one for (axis, _), one in faces.items() if axis == own] for own in range(3)]
    apart, doubt = _apart(list(faces.values()))
    found: dict[str, float | int] = {"score": math.exp(abs(apart)), "faces": len(faces)}
    if doubt is not None:
        found["low"] = math.exp(max(0.0, abs(apart) - doubt))
        found["high"] = math.exp(abs(apart) + doubt)
    return {**found, "axes": [math.exp(abs(_apart(own)[0])) for own in axes]}


@dataclass
class _Face:
    """Sums over a plane between blocks, and over each plane inside that it is held against.

    Attributes:
        inside: (plane, 2), sum of the voxels' shares, and voxels.
        at: (2,), of the face.
    """

    inside: np.ndarray
    at: np.ndarray = field(default_factory=lambda: np.zeros(2))


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


def _apart(faces: list[_Face]) -> tuple[float, float | None]:
    """Return the logarithm of the factor by which faces step more than planes inside, and how far
    it may be off; 0 if there is no face, or no step."""
    at = sum((one.at for one in faces), np.zeros(2))
    inside = sum((one.inside.mean(axis=0) for one in faces), np.zeros(2))
    if not at[1] and not inside[1]:
        return 0.0, None
    # An e of 1 or -1 (steps nowhere but at faces, or nowhere there) would be beyond any number.
    e, e_inside = (min(max(s / max(n, 1), -_MOST), _MOST) for s, n in (at, inside))
    apart = 2 * (math.atanh(e) - math.atanh(e_inside))
    freedom = sum(len(one.inside) - 1 for one in faces)
    if not freedom:
        return apart, None
    squares = variance = 0.0
    for one in faces:
        own = one.inside[:, 0] / np.maximum(one.inside[:, 1], 1)
        squares += float(((own - own.mean()) ** 2).sum())
        weight = (one.at[1] + one.inside[:, 1].mean()) / (at[1] + inside[1])
        variance += weight**2 * (1 + 1 / len(own))
    spread = math.sqrt(variance * squares / freedom)
    doubt = 2 * spread / (1 - e * e) * float(stdtrit(freedom, (1 + _LEVEL) / 2))
    return apart, doubt

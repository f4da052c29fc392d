"""The seam score: can a block face be told from inside?

Across each block face the mean absolute step of the probabilities is compared with those of the
nearest planes within the blocks that are alike to the network. The score is the larger of the two
over the smaller: 1 where the block does not show. It counts both ways, because a block that was
given no halo often steps less at its faces, not more: zeros behind a face damp both of its sides.

A network that halves its maps, and doubles them again, steps more between some pairs of planes than
between others, over and over, whatever the block; faces are all at one place of that pattern, so
only planes at the same place say what a step inside is.
"""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_QUIET = 1e-3  # mean steps (of 255, or of a class) far below this say nothing about seams


def seam_score(
    volume: Volume, grid: Grid, align: tuple[int, int, int]
) -> dict[str, float | list[float]]:
    """Return ``score`` and the score of each axis (z, y, x) of a prediction.

    Reads the planes about each face, one block's worth at a time.

    Args:
        volume: the prediction.
        grid: its blocks.
        align: voxels (z, y, x) after which the network's pattern begins anew: its blocks' grid.
    """
    across, inside, voxels = np.zeros(3), np.zeros(3), np.zeros(3)
    for block in grid:
        for axis, side in enumerate(grid.block):
            apart = min(align[axis], side // 2)  # planes that are no faces themselves
            face = block.write.start[axis]
            first, last = face - 1 - apart, face + 1 + apart
            if first < 0 or last > volume.shape[axis]:
                continue
            start, stop = list(block.write.start), list(block.write.stop)
            start[axis], stop[axis] = first, last
            values = volume.read(Box.of(tuple(start), tuple(stop))).astype(np.float32)
            values = np.moveaxis(values, axis - 3, 0)
            before, at, after = (
                float(np.abs(values[n + 1] - values[n]).sum()) for n in (0, apart, 2 * apart)
            )
            across[axis] += at
            inside[axis] += (before + after) / 2
            voxels[axis] += values[0].size
    axes = [_apart(*sums) for sums in zip(across, inside, voxels, strict=True)]
    return {"score": _apart(across.sum(), inside.sum(), voxels.sum()), "axes": axes}


def _apart(across: float, inside: float, voxels: float) -> float:
    """Return by what factor two sums of steps differ; 1 if there is no face, or hardly a step."""
    if not voxels:
        return 1.0
    least, most = sorted((across / voxels, inside / voxels))
    return float((most + _QUIET) / (least + _QUIET))

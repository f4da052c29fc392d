"""The seam score: can a block face be told from inside?

Across each block face the mean absolute step of the probabilities is compared with that of the
planes beside it, within the blocks: their ratio is 1 where the block does not show.
"""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_LEAST_STEP = 1e-3  # of the value range: quieter faces say nothing about seams


def seam_score(volume: Volume, grid: Grid) -> dict[str, float | list[float]]:
    """Return ``score`` and the score of each axis (z, y, x) of a prediction.

    Reads six planes about each face, one block's worth at a time.
    """
    across, inside = np.zeros(3), np.zeros(3)
    for block in grid:
        for axis in range(3):
            face = block.write.start[axis]
            if face < 3 or face + 3 > volume.shape[axis]:
                continue
            start, stop = list(block.write.start), list(block.write.stop)
            start[axis], stop[axis] = face - 3, face + 3
            values = volume.read(Box.of(tuple(start), tuple(stop))).astype(np.float32)
            steps = np.abs(np.diff(values, axis=axis - 3))
            steps = np.moveaxis(steps, axis - 3, 0).reshape(5, -1).sum(axis=1)
            across[axis] += steps[2]
            inside[axis] += (steps[0] + steps[1] + steps[3] + steps[4]) / 4
    scores = [
        float(a / i) if i > 0 and i + a > _LEAST_STEP else 1.0
        for a, i in zip(across, inside, strict=True)
    ]
    total = float(across.sum() / inside.sum()) if inside.sum() > 0 else 1.0
    return {"score": total, "axes": scores}

"""Half acquisition: 360 degrees with the axis near the detector's edge, for a field twice as wide.

What one projection does not see of the far side, the one half a turn later does. Where both see it,
they share it by weights that add up to two (a turn of 360 degrees counts each ray twice)::

    2 ______                        weight of a projection, the axis at the right:
            \\
    1        \\  axis               w(s) + w(-s) = 2
              \\
    0          \\__
        far side   | detector's edge

Filtering is linear, so nothing has to be stitched or interpolated, and the axis may be anywhere
between two columns.
"""

from __future__ import annotations

import numpy as np

from tessera.errors import TesseraError

_TURN_DEG = 350.0


def check_turn(angles_deg: np.ndarray, where: str) -> None:
    """Refuse what is no full turn.

    Raises:
        TesseraError: it covers less than 350 degrees.
    """
    step = float(np.abs(np.diff(angles_deg)).mean())
    span = float(np.abs(angles_deg[-1] - angles_deg[0])) + step
    if span < _TURN_DEG:
        raise TesseraError(
            f"{where}: half acquisition needs 360 degrees, but the angles cover {span:.0f}; leave "
            "recon.axis.half_acquisition out"
        )


def widened(sinograms: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted sinograms (angles, rows, 2 columns) and their axes.

    Behind the near edge, where the other half of the turn has seen all, zeros follow: only the far
    edge is one beyond which there may be more of the specimen.
    """
    angles, rows, columns = sinograms.shape
    out = np.zeros((angles, rows, 2 * columns), np.float32)
    axes = np.asarray(axes, float)
    first = np.where(axes < (columns - 1) / 2, columns, 0)
    for row, weight in enumerate(weights(columns, axes)):
        part = slice(first[row], first[row] + columns)
        np.multiply(sinograms[:, row], weight, out=out[:, row, part])
    return out, axes + first


def weights(columns: int, axes: np.ndarray) -> np.ndarray:
    """Return the weights (rows, columns) of a detector about the axes (rows,)."""
    axes = np.asarray(axes, float)[:, None]
    s = np.arange(columns) - axes
    near = np.minimum(axes, columns - 1 - axes)  # both sides see this far
    side = np.where(axes > (columns - 1) / 2, 1.0, -1.0)  # +1: the far side is that of s < 0
    along = np.clip(side * s / np.maximum(near, 0.5), -1, 1)
    return np.asarray(1 - np.sin(np.pi / 2 * along), np.float32)

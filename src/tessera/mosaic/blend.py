"""Blending weights of a tile: large in its middle, small at its edges, never zero inside.

Along z the weight is the distance to the nearer face; across, it falls from the rotation axis to
the edge of the circle in which the tile is true (or to the sides of a tile without a circle).
Outside the circle, where the tile is extrapolated, a small weight is left, which matters only where
no tile is true. The weights of all tiles are divided by their sum, so they sum to one wherever
there is a tile; no edge and no step is left at a border between tiles, however wide the overlap.
"""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Triple

_OUTSIDE = 1e-3  # weight outside the circle against one in the middle of the tile


def tile_weights(
    zyx: tuple[np.ndarray, np.ndarray, np.ndarray], shape: Triple, radius_vox: float | None
) -> np.ndarray:
    """Return a tile's weights at points given in its own voxels.

    Args:
        zyx: coordinates along z, y and x (one-dimensional each, not necessarily whole).
        shape: the tile's size (z, y, x).
        radius_vox: radius of the circle in which the tile is true, or None.

    Returns:
        float32 (z, y, x); zero outside the tile.
    """
    z, y, x = (_ramp(c, n) for c, n in zip(zyx, shape, strict=True))
    sides = y[:, None] * x[None, :]
    if radius_vox is None:
        across = sides
    else:
        dy, dx = (c - (n - 1) / 2 for c, n in zip(zyx[1:], shape[1:], strict=True))
        away = (dy[:, None] ** 2 + dx[None, :] ** 2) / radius_vox**2
        across = np.where(sides > 0, np.maximum(1 - away, 0) + _OUTSIDE * sides, 0)
    return (z[:, None, None] * across[None]).astype(np.float32)


def _ramp(coordinate: np.ndarray, size: int) -> np.ndarray:
    """Distance to the nearer face over half the size; 0 beyond the outermost voxel centres."""
    distance = np.minimum(coordinate + 1, size - coordinate) / ((size + 1) / 2)
    inside = (coordinate >= 0) & (coordinate <= size - 1)
    return np.where(inside, distance, 0.0)

"""Sinograms that are known in closed form."""

from __future__ import annotations

import numpy as np


def disc(
    angles: int, columns: int, axis: float, radius: float, y: float, x: float, turn: float = 180.0
) -> tuple[np.ndarray, np.ndarray]:
    """Angles and exact sinogram (angles, columns) of a uniform disc of 1 a pixel."""
    theta = np.arange(angles) * turn / angles
    s = np.arange(columns) - axis
    middle = x * np.cos(np.deg2rad(theta)) + y * np.sin(np.deg2rad(theta))
    shadow = 2 * np.sqrt(np.maximum(radius**2 - (s - middle[:, None]) ** 2, 0))
    return theta, shadow.astype(np.float32)


def radii(columns: int, y: float, x: float) -> np.ndarray:
    """Distance (columns, columns) of each pixel from a point relative to the middle."""
    yy, xx = np.mgrid[:columns, :columns] - (columns - 1) / 2
    return np.hypot(yy - y, xx - x)

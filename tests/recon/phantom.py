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


def discs(
    theta_deg: np.ndarray,
    columns: int,
    axis: float,
    rng: np.random.Generator,
    many: int,
    field: float,
) -> np.ndarray:
    """Exact sinogram (angles, columns) of random discs within ``field`` of the axis."""
    y, x = rng.uniform(-field, field, (2, many))
    radius, value = rng.uniform(3, 12, many), rng.uniform(0.5, 1.5, many)
    theta = np.deg2rad(theta_deg)[:, None]
    middle = x * np.cos(theta) + y * np.sin(theta)
    s = (np.arange(columns) - axis)[:, None, None] - middle
    shadow = 2 * value * np.sqrt(np.maximum(radius**2 - s**2, 0))
    return shadow.sum(axis=2).T.astype(np.float32)

"""Gain and offset of each tile, so that overlaps are equally bright.

A tile's values become ``gain * value + offset``. Gains come from the contrast (standard deviation)
that two tiles show in common, offsets from the means, each by least squares over all pairs with a
weak pull to 1 and 0. The mean gain and offset of all tiles stay 1 and 0: the absolute scale is the
reconstruction's.
"""

from __future__ import annotations

import numpy as np

from tessera.mosaic.pair import Measured

_GAIN_SPREAD = 0.05  # how much gains are expected to differ
_MOST = 0.25  # a gain further from 1 than this is not believed


def match_brightness(count: int, pairs: list[Measured]) -> tuple[np.ndarray, np.ndarray]:
    """Return gain and offset of each of ``count`` tiles from the pairs that the solution uses."""
    log_gain = _differences(count, [_contrast(p) for p in pairs], pairs, 1 / _GAIN_SPREAD**2)
    gain = np.exp(np.clip(log_gain, np.log(1 - _MOST), np.log(1 + _MOST)))
    steps = []
    for p in pairs:
        a, b = p.moments.mean
        spread = float(np.sqrt(max(np.trace(p.moments.covariance), 1e-30)))
        # b's offset minus a's must be what its matched mean lacks.
        steps.append((gain[p.pair.a] * a - gain[p.pair.b] * b, p.moments.count / spread**2))
    scale = float(np.median([w for _, w in steps])) if steps else 1.0
    offset = _differences(count, steps, pairs, 1e-3 * scale)
    return gain, offset


def _contrast(p: Measured) -> tuple[float, float]:
    """Log ratio of a's contrast to b's, and how well it is known."""
    cov = p.moments.covariance
    if min(cov[0, 0], cov[1, 1]) <= 0:
        return 0.0, 0.0
    rho = float(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))
    # Variance of the log ratio of two correlated standard deviations; smoothing has made about
    # 300 voxels alike.
    free = max(p.moments.count / 300, 1.0)
    variance = (1 - min(max(rho, 0.0), 0.999) ** 2) / free + 1e-4
    return 0.5 * float(np.log(cov[0, 0] / cov[1, 1])), 1 / variance if rho > 0.3 else 0.0


def _differences(
    count: int, steps: list[tuple[float, float]], pairs: list[Measured], prior: float
) -> np.ndarray:
    """Values whose differences b - a are the steps (value, weight), with mean zero."""
    matrix, right = np.eye(count) * prior, np.zeros(count)
    for (step, weight), p in zip(steps, pairs, strict=True):
        a, b = p.pair.a, p.pair.b
        matrix[a, a] += weight
        matrix[b, b] += weight
        matrix[a, b] -= weight
        matrix[b, a] -= weight
        right[b] += weight * step
        right[a] -= weight * step
    solved = np.linalg.solve(matrix, right)
    return np.asarray(solved - solved.mean())

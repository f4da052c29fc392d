"""Sinograms wider than the detector: what lies beyond its edges, made up smoothly.

Where the specimen ends within the detector the edges read zero and zeros follow. Where it does not
(a tile, a region of interest) a jump to zero would raise the rim and bend the middle. Instead each
edge goes on as the shadow of a round body: ``p(s) = a sqrt(R**2 - s**2)``, whose value and slope
are those that the sinogram has there. For a uniform disc that is exact.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

_SLOPE_WIDTH = 0.12  # of the columns, over which value and slope of an edge are fitted
_SLOPE_ANGLES = 0.04  # of the angles, over which they are smoothed: they change slowly
_STOUT = 0.2  # a smaller body than this (of half the width, beyond the edge) is not believed


def extend(
    sinograms: np.ndarray, length: int, truncated: bool, axis: float
) -> tuple[np.ndarray, int]:
    """Return a sinogram padded to ``length`` columns and the number of columns put before it.

    Args:
        sinograms: (angles, columns), or (angles, rows, columns) of one axis.
        length: padded width.
        truncated: the specimen may be wider than the detector.
        axis: rotation axis, about which the body is taken to be round.
    """
    columns = sinograms.shape[-1]
    before = (length - columns) // 2
    out = np.zeros((*sinograms.shape[:-1], length), np.float32)
    out[..., before : before + columns] = sinograms
    if truncated:
        after = length - columns - before
        left = _beyond(sinograms[..., ::-1], columns - 1 - axis, before)
        out[..., :before] = left[..., ::-1]
        out[..., before + columns :] = _beyond(sinograms, axis, after)
    return out, before


def _beyond(sinograms: np.ndarray, axis: float, count: int) -> np.ndarray:
    """Values (..., count) that follow the last column."""
    columns = sinograms.shape[-1]
    width = max(4, round(_SLOPE_WIDTH * columns))
    u = np.arange(width, dtype=np.float32) - (width - 1) / 2
    part = sinograms[..., -width:]
    smooth = _SLOPE_ANGLES * len(sinograms)
    middle = gaussian_filter1d(part.mean(axis=-1), smooth, axis=0, mode="nearest")
    slope = gaussian_filter1d(part @ u / float(u @ u), smooth, axis=0, mode="nearest")
    s_fit = columns - 1 - (width - 1) / 2 - axis  # place of the fit, and of the edge itself
    s_edge = columns - 1 - axis
    if s_edge < 2 or s_fit < 1:
        return np.zeros((*sinograms.shape[:-1], count), np.float32)
    farthest = s_edge + count
    falls = np.maximum(-slope, 1e-12)
    radius2 = np.clip(
        s_fit**2 + s_fit * np.maximum(middle, 0) / falls,
        (s_edge * (1 + _STOUT)) ** 2,
        farthest**2,
    )
    height = np.maximum(middle, 0) / np.sqrt(radius2 - s_fit**2)
    s = s_edge + 1 + np.arange(count)
    model = height[..., None] * np.sqrt(np.maximum(radius2[..., None] - s**2, 0))
    # The edge itself may lie off the smooth body; that difference dies away.
    edge = sinograms[..., -4:].mean(axis=-1) - height * np.sqrt(radius2 - s_edge**2)
    fade = np.exp(-(s - s_edge) / max(width / 2, 1))
    return np.asarray(np.maximum(model, 0) + edge[..., None] * fade, np.float32)

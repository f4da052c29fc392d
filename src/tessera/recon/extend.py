"""Sinograms wider than the detector: what lies beyond its edges, made up smoothly.

Where the specimen ends within the detector the edges read zero and zeros follow. Where it does not
(a tile, a region of interest) a jump to zero would raise the rim and bend the middle; instead the
edge goes on and falls off as the shadow of a round specimen would.
"""

from __future__ import annotations

import numpy as np

_EDGE = 4  # columns that tell the edge's value


def extend(sinograms: np.ndarray, length: int, truncated: bool) -> tuple[np.ndarray, int]:
    """Return sinograms padded to ``length`` columns and the number of columns put before them.

    Args:
        sinograms: (..., columns).
        length: padded width.
        truncated: the specimen may be wider than the detector.
    """
    columns = sinograms.shape[-1]
    before = (length - columns) // 2
    after = length - columns - before
    out = np.zeros((*sinograms.shape[:-1], length), np.float32)
    out[..., before : before + columns] = sinograms
    if truncated:
        left = sinograms[..., :_EDGE].mean(axis=-1, keepdims=True)
        right = sinograms[..., -_EDGE:].mean(axis=-1, keepdims=True)
        out[..., :before] = left * _fall(before)[::-1]
        out[..., before + columns :] = right * _fall(after)
    return out, before


def _fall(count: int) -> np.ndarray:
    """From 1 at the edge to 0, as the outer half of a disc's shadow."""
    t = (np.arange(count) + 0.5) / max(count, 1)
    return np.sqrt(1 - t**2).astype(np.float32)

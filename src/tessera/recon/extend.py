"""Sinograms wider than the detector: what lies beyond its edges, made up smoothly.

Where the specimen ends within the detector the edges read zero and zeros follow. Where it does not
(a tile, a region of interest) a jump to zero would raise the rim and bend the middle. Instead each
edge goes on as the shadow of a round body: ``p(s) = a sqrt(R**2 - s**2)``, whose value and slope
are those that the sinogram has there. For a uniform disc that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.ndimage import gaussian_filter1d

_SLOPE_WIDTH = 0.12  # of the columns, over which value and slope of an edge are fitted
_SLOPE_ANGLES = 0.04  # of the angles, over which they are smoothed: they change slowly
_STOUT = 0.2  # a smaller body than this (of half the width, beyond the edge) is not believed


class Extension:
    """Sinograms (angles, rows, columns) and what follows beyond both of their edges.

    Args:
        sinograms: line integrals.
        length: padded width.
        truncated: the specimen may be wider than the detector.
        axes: (rows,) rotation axes, about which the body is taken to be round.
    """

    def __init__(
        self, sinograms: np.ndarray, length: int, truncated: bool, axes: np.ndarray
    ) -> None:
        columns = sinograms.shape[2]
        self._sinograms, self.length = sinograms, length
        self.before = (length - columns) // 2
        self._left = self._right = None
        if truncated:
            after = length - columns - self.before
            self._left = _Edge.fit(sinograms[..., ::-1], columns - 1 - axes, self.before)
            self._right = _Edge.fit(sinograms, axes, after)

    def padded(self, angles: slice = slice(None)) -> np.ndarray:
        """Return (angles, rows, length), float32, of some of the angles."""
        part = self._sinograms[angles]
        columns = part.shape[2]
        out = np.zeros((*part.shape[:2], self.length), np.float32)
        out[..., self.before : self.before + columns] = part
        if self._left is not None and self._right is not None:
            self._left.write(angles, out[..., : self.before][..., ::-1])
            self._right.write(angles, out[..., self.before + columns :])
        return out


@dataclass(frozen=True)
class _Edge:
    """What follows the last column: (angles, rows) of a body, and how the edge differs from it."""

    height: np.ndarray
    radius2: np.ndarray
    jump: np.ndarray
    place: np.ndarray  # (rows, count) of the columns that follow, from the axis
    fade: np.ndarray  # (count,)

    @staticmethod
    def fit(sinograms: np.ndarray, axes: np.ndarray, count: int) -> _Edge:
        """Fit the body to the last columns."""
        columns = sinograms.shape[2]
        width = max(4, round(_SLOPE_WIDTH * columns))
        u = np.arange(width, dtype=np.float32) - (width - 1) / 2
        part = sinograms[..., -width:]
        smooth = _SLOPE_ANGLES * len(sinograms)
        middle = gaussian_filter1d(part.mean(axis=-1), smooth, axis=0, mode="nearest")
        slope = gaussian_filter1d(part @ u / float(u @ u), smooth, axis=0, mode="nearest")
        s_edge = columns - 1 - np.asarray(axes, float)  # place of the edge, and of the fit
        s_fit = s_edge - (width - 1) / 2
        # An axis at the edge, or beyond it: nothing is known of a body about it.
        known = (s_edge >= 2) & (s_fit >= 1)
        s_edge, s_fit = np.where(known, s_edge, 2.0), np.where(known, s_fit, 1.0)
        falls = np.maximum(-slope, 1e-12)
        value = np.maximum(middle, 0) * known
        radius2 = np.clip(
            s_fit**2 + s_fit * value / falls, (s_edge * (1 + _STOUT)) ** 2, (s_edge + count) ** 2
        )
        height = value / np.sqrt(radius2 - s_fit**2)
        # The edge itself may lie off the smooth body; that difference dies away.
        jump = (part[..., -4:].mean(axis=-1) - height * np.sqrt(radius2 - s_edge**2)) * known
        steps = np.arange(1, count + 1)
        fade = np.exp(-steps / max(width / 2, 1))
        kind = np.float32
        return _Edge(
            height.astype(kind), radius2.astype(kind), jump.astype(kind),
            (s_edge[:, None] + steps).astype(kind), fade.astype(kind),
        )  # fmt: skip

    def write(self, angles: slice, out: np.ndarray) -> None:
        """Write (angles, rows, count)."""
        _follow(
            self.height[angles], self.radius2[angles], self.jump[angles], self.place, self.fade, out
        )


@numba.njit(cache=True, nogil=True)
def _follow(height, radius2, jump, place, fade, out):  # type: ignore[no-untyped-def]
    for angle in range(out.shape[0]):
        for row in range(out.shape[1]):
            for n in range(out.shape[2]):
                left = radius2[angle, row] - place[row, n] ** 2
                body = height[angle, row] * np.sqrt(left if left > 0 else np.float32(0))
                out[angle, row, n] = body + jump[angle, row] * fade[n]

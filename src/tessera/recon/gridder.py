"""Filtered backprojection by gridding: spread the spokes, transform, divide the kernel out.

1. The filtered spectra of eight slices (:mod:`tessera.recon.spokes`) are spread onto a grid that is
   half finer than the slice needs, with a Kaiser-Bessel kernel (:mod:`tessera.recon.spread`).
2. What fell beyond the half plane is folded back: the picture is real.
3. Two passes of FFTs; only the rows and columns that the slice has are computed.
4. The kernel's transform is divided out.

The method is O'Sullivan's (doi:10.1109/TMI.1985.4307723), the kernel's shape that of Beatty
(doi:10.1109/TMI.2005.848376). Nothing depends on the number of threads.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

import numba
import numpy as np
import scipy.fft

from tessera.config import Recon
from tessera.recon.backends import Backend
from tessera.recon.spokes import Spokes, even_fast_length
from tessera.recon.spread import (
    LANES,
    MARGIN,
    WIDTH,
    grid_shape,
    kernel_transform,
    runs_of,
    spread,
)

_FINER = 1.5
_ROWS, _COLUMNS = 32, 32  # transformed at a time


class Geometry:
    """The grid of one scan; arguments as for :class:`Spokes`.

    Attributes:
        spokes: what falls onto the grid.
        size: cells of the whole plane along either axis; even.
        step, rise: (angles,) cells along x and y from one point of a spoke to the next.
        beta: shape of the kernel.
        places: (columns,) where the slice's columns (and rows) lie among the transform's.
        across, down: (columns,) what they are multiplied by to divide the kernel out.
    """

    def __init__(
        self, angles_deg: np.ndarray, columns: int, filter_name: str, truncated: bool
    ) -> None:
        self.spokes = Spokes(angles_deg, columns, filter_name, truncated)
        self.size = size = even_fast_length(int(np.ceil(_FINER * columns)))
        self.step = self.spokes.across * size / self.spokes.length
        self.rise = self.spokes.along * size / self.spokes.length
        finer = size / columns
        self.beta = float(np.pi * np.sqrt((WIDTH / finer * (finer - 0.5)) ** 2 - 0.8))
        places = np.arange(columns) - columns // 2
        weight = 1 / kernel_transform(places / size, self.beta)
        self.down = weight.astype(np.float32)
        # The grid starts at the most negative kx: that is a change of sign of every other column.
        self.across = np.where(places % 2, -weight, weight).astype(np.float32)
        self.places = places % size


class GridderBackend(Backend):
    """Filtered backprojection by gridding, eight slices at a time."""

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        super().__init__(settings, angles_deg, columns, threads)
        self._geometry = g = Geometry(angles_deg, columns, settings.filter, settings.roi_extend)
        self._runs = runs_of(g.step, g.rise, g.spokes.shape[1], g.size)

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        g, rows = self._geometry, sinograms.shape[1]
        out = np.empty((rows, self.columns, self.columns), np.float32)
        # New memory costs as much as what is done in it: it is kept from batch to batch, and the
        # transform's second pass takes the place of the spokes.
        grid = np.empty(grid_shape(g.size), np.complex64)
        spokes = (*g.spokes.shape, LANES)
        # Three more columns than are used: rows a power of two apart share lines of the cache.
        half = (g.size // 2 + 1, self.columns + 3, LANES)
        work = np.zeros(max(int(np.prod(spokes)), int(np.prod(half))), np.complex64)
        values = work[: np.prod(spokes)].reshape(spokes)
        narrow = work[: np.prod(half)].reshape(half)
        with ThreadPoolExecutor(self.threads) as pool:
            for first in range(0, rows, LANES):
                part = slice(first, min(first + LANES, rows))
                g.spokes.values(sinograms[:, part], axes[part], values, pool)
                spread(values, self._runs, g.step, g.rise, g.beta, g.size, grid, pool)
                self._pictures(fold(grid), narrow, out[part], pool)
        return out

    def _pictures(
        self, half: np.ndarray, narrow: np.ndarray, out: np.ndarray, pool: Executor
    ) -> None:
        """Transform the half plane (size // 2 + 1, size, LANES) into slices (rows, y, x).

        ``narrow`` holds those of its columns that the slice has, after the first pass.
        """
        g = self._geometry

        def along_x(first: int) -> None:
            rows = slice(first, first + _ROWS)
            made = scipy.fft.ifft(half[rows], axis=1, norm="forward", overwrite_x=True)
            negative = self.columns // 2
            for here, there in (
                (slice(0, negative), slice(g.size - negative, g.size)),
                (slice(negative, self.columns), slice(0, self.columns - negative)),
            ):
                np.multiply(made[:, there], g.across[here, None], out=narrow[rows, here])

        def along_y(first: int) -> None:
            last = min(first + _COLUMNS, self.columns)
            made = scipy.fft.irfft(narrow[:, first:last], g.size, axis=0, norm="forward")
            _pick(made, g.places, g.down, out[:, :, first:last])

        list(pool.map(along_x, range(0, len(half), _ROWS)))
        list(pool.map(along_y, range(0, self.columns, _COLUMNS)))


def fold(grid: np.ndarray) -> np.ndarray:
    """Return the half plane ky >= 0 (size // 2 + 1, size, ...) of a grid with margins, in place.

    Columns go round. A row that lies below 0 or above the Nyquist frequency is the mirror image,
    conjugate, of one within; the first and the last row are their own.
    """
    size = grid.shape[1] - 2 * MARGIN
    grid[:, size : size + MARGIN] += grid[:, :MARGIN]
    grid[:, MARGIN : 2 * MARGIN] += grid[:, size + MARGIN :]
    plane = grid[:, MARGIN:-MARGIN]
    last = len(grid) - 1 - MARGIN
    mirrored = -np.arange(size)  # column c is kx = c - size / 2, and size is even
    for k in range(MARGIN + 1):
        plane[MARGIN + k] += plane[MARGIN - k][mirrored].conj()
        plane[last - k] += plane[last + k][mirrored].conj()
    return plane[MARGIN : last + 1]


@numba.njit(cache=True, nogil=True)
def _pick(made, places, weight, out):  # type: ignore[no-untyped-def]
    """out[lane, y, x] = made[places[y], x, lane] weight[y]."""
    for y in range(out.shape[1]):
        row = made[places[y]]
        for lane in range(out.shape[0]):
            for x in range(out.shape[2]):
                out[lane, y, x] = row[x, lane] * weight[y]

"""Filtered spectra of sinograms, on the spokes of the Fourier plane where they belong.

By the projection-slice theorem the spectrum of a projection is a line through the spectrum of its
slice. What a backend gets is, for each angle and each frequency from 0 up, the spectrum times the
filter, turned so that the rotation axis lies at the middle of the slice. Frequencies below 0 are
the complex conjugates; the Nyquist frequency, which stands for both signs, is left out.
"""

from __future__ import annotations

from concurrent.futures import Executor

import numba
import numpy as np
import scipy.fft

from tessera.recon.extend import Extension
from tessera.recon.filters import response

_ANGLES = 64  # transformed at a time


def even_fast_length(least: int) -> int:
    """Return an even length, ``least`` or more, that transforms fast.

    (The next fast length may be odd, and the number after it anything: 3125 is 5**5, but 3126 has
    521 among its factors and takes three times as long.)
    """
    return 2 * int(scipy.fft.next_fast_len(-(-least // 2), real=True))


class Spokes:
    """The geometry of one scan.

    Args:
        angles_deg: (angles,) over 180 or 360 degrees, evenly spaced.
        columns: detector columns; a slice is columns x columns.
        filter_name: see :mod:`tessera.recon.filters`.
        truncated: the specimen may be wider than the detector.

    Attributes:
        length: padded columns.
        frequency: (points,) of a spoke, cycles a pixel, 0 first.
        across, along: (angles,) cosine and sine of the angles, or of the angles less 180 degrees:
            a spoke that would point down (sine below 0) is replaced by its other end.
    """

    def __init__(
        self, angles_deg: np.ndarray, columns: int, filter_name: str, truncated: bool
    ) -> None:
        self.columns, self.truncated = columns, truncated
        self.length = even_fast_length((3 if truncated else 2) * columns)
        self.frequency = np.arange(self.length // 2) / self.length
        theta = np.deg2rad(angles_deg)
        self._turned = np.sin(theta) < 0
        sign = np.where(self._turned, -1.0, 1.0)
        self.across, self.along = sign * np.cos(theta), sign * np.sin(theta)
        self._weight = response(filter_name, self.length)[:-1] * np.pi / len(theta) / self.length
        self._weight[0] /= 2  # it has no partner of the other sign
        # Pixel centres are half a pixel off the transform's integers where columns is even.
        half = 0.5 if columns % 2 == 0 else 0.0
        self._onward = np.exp(2j * np.pi * half * (self.across + self.along) / self.length)

    @property
    def shape(self) -> tuple[int, int]:
        """Angles, and points of a spoke."""
        return len(self.across), len(self.frequency)

    def values(
        self, sinograms: np.ndarray, axes: np.ndarray, out: np.ndarray, pool: Executor
    ) -> None:
        """Write (angles, points, lanes), complex64, of sinograms (angles, rows, columns).

        Args:
            sinograms: line integrals, float32, at most as many rows as there are lanes.
            axes: (rows,) rotation axis of each row, as a pixel-centre column.
            out: rows lie side by side, one a lane; further lanes are left as they are.
            pool: threads that share the angles.
        """
        extension = Extension(sinograms, self.length, self.truncated, axes)
        place = np.asarray(axes, float) + extension.before
        shift = np.exp(2j * np.pi * np.outer(place, self.frequency)).astype(np.complex64)

        def some(first: int) -> None:
            angles = slice(first, first + _ANGLES)
            spectra = scipy.fft.rfft(extension.padded(angles), axis=2, overwrite_x=True)
            turned, onward = self._turned[angles], self._onward[angles]
            _side_by_side(spectra, shift, self._weight, onward, turned, out[angles])

        list(pool.map(some, range(0, self.shape[0], _ANGLES)))


@numba.njit(cache=True, nogil=True)
def _side_by_side(spectra, shift, weight, onward, turned, out):  # type: ignore[no-untyped-def]
    """out[angle, k, row] = spectra[angle, row, k] shift[row, k] weight[k] onward[angle]**k.

    The conjugate of the (shifted) spectrum where the other end of the spoke is taken.
    """
    factor = np.empty(len(weight), np.complex64)
    for a in range(out.shape[0]):
        phase = np.complex128(1)
        for k in range(len(weight)):
            factor[k] = phase * weight[k]
            phase *= onward[a]
        for row in range(spectra.shape[1]):
            for k in range(out.shape[1]):
                value = spectra[a, row, k] * shift[row, k]
                if turned[a]:
                    value = np.conj(value)
                out[a, k, row] = value * factor[k]

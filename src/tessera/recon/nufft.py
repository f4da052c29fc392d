"""Filtered backprojection through the non-uniform FFT (finufft, doi:10.1137/18M120885X).

By the projection-slice theorem the filtered spectra of all projections lie on spokes in the
slice's Fourier plane; the adjoint transform of these points is the filtered backprojection itself,
in one step. Two real slices travel as one complex one, which halves the work. A plan is set up once
for a slab; threads have plans of their own, so the result does not depend on their number.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import finufft
import numpy as np
import scipy.fft

from tessera.recon.extend import extend
from tessera.recon.filters import response

_EPS = 1e-4
_PAIRS = 4  # complex slices of one transform


class NufftBackend:
    """Reconstruct slabs of rows of one scan.

    Args:
        angles_deg: (angles,), evenly spaced over 180 or 360 degrees.
        columns: detector columns; a slice is columns x columns.
        filter_name: see :mod:`tessera.recon.filters`.
        truncated: the specimen may be wider than the detector.
        threads: how many slabs' parts are worked on at once.
    """

    def __init__(
        self,
        angles_deg: np.ndarray,
        columns: int,
        filter_name: str,
        truncated: bool,
        threads: int = 1,
    ) -> None:
        self.columns, self.truncated, self.threads = columns, truncated, max(1, threads)
        self.length = scipy.fft.next_fast_len((3 if truncated else 2) * columns, real=True)
        self.length += self.length % 2
        self._response = (response(filter_name, self.length) * np.pi / len(angles_deg)).astype(
            np.float32
        )
        frequency = np.fft.fftfreq(self.length)  # cycles a pixel, both signs
        theta = np.deg2rad(angles_deg)
        # Modes run over y, x; x goes with cos and y with sin (docs/formats.md).
        self._x = (2 * np.pi * np.outer(np.cos(theta), frequency)).astype(np.float32).ravel()
        self._y = (2 * np.pi * np.outer(np.sin(theta), frequency)).astype(np.float32).ravel()
        self._frequency = frequency
        # Pixel centres are half a pixel off the transform's integers where columns is even.
        half = 0.5 if columns % 2 == 0 else 0.0
        self._centre = np.exp(1j * half * (self._x + self._y)).astype(np.complex64)

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """Return slices (rows, y, x), per pixel, of sinograms (angles, rows, columns).

        Args:
            sinograms: line integrals, float32.
            axes: (rows,) rotation axis of each row, as a pixel-centre column.
        """
        rows = sinograms.shape[1]
        out = np.empty((rows, self.columns, self.columns), np.float32)
        parts = [range(i, min(i + 2 * _PAIRS, rows)) for i in range(0, rows, 2 * _PAIRS)]
        with ThreadPoolExecutor(self.threads) as pool:
            for part, slices in zip(
                parts, pool.map(lambda p: self._part(sinograms, axes, p), parts), strict=True
            ):
                out[part.start : part.stop] = slices
        return out

    def _part(self, sinograms: np.ndarray, axes: np.ndarray, part: range) -> np.ndarray:
        pairs = -(-len(part) // 2)
        points = np.zeros((pairs, self._x.size), np.complex64)
        for n, row in enumerate(part):
            spectrum = self._spectrum(sinograms[:, row], float(axes[row]))
            points[n // 2] += spectrum if n % 2 == 0 else 1j * spectrum
        plan = finufft.Plan(
            1, (self.columns, self.columns), n_trans=pairs, eps=_EPS, isign=1,
            dtype="complex64", nthreads=1,
        )  # fmt: skip
        plan.setpts(self._y, self._x)
        made = plan.execute(points if pairs > 1 else points[0]).reshape(pairs, *self._shape)
        slices = np.empty((2 * pairs, *self._shape), np.float32)
        slices[0::2], slices[1::2] = made.real, made.imag
        return slices[: len(part)]

    @property
    def _shape(self) -> tuple[int, int]:
        return self.columns, self.columns

    def _spectrum(self, sinogram: np.ndarray, axis: float) -> np.ndarray:
        """Filtered spectrum of one sinogram on all spokes, the axis moved to zero."""
        padded, before = extend(sinogram, self.length, self.truncated, axis)
        half = scipy.fft.rfft(padded, axis=1) * (self._response / self.length)
        n = self.length // 2
        full = np.empty((len(padded), self.length), np.complex64)
        full[:, :n] = half[:, :n]
        # The Nyquist term stands for both signs; its real part alone keeps the slice real.
        full[:, n] = 0
        full[:, n + 1 :] = np.conj(half[:, n - 1 : 0 : -1])
        # Column j of the padded sinogram lies at s = j - before - axis.
        full *= np.exp(2j * np.pi * self._frequency * (before + axis)).astype(np.complex64)
        return np.asarray(full.ravel() * self._centre)

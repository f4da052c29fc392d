"""Filtered backprojection through the non-uniform FFT (finufft, doi:10.1137/18M120885X).

The adjoint transform of the filtered spectra on their spokes (:mod:`tessera.recon.spokes`) is the
filtered backprojection itself, in one step. Two real slices travel as one complex one, which halves
the work; several pairs share a plan. Threads work at parts of their own, so the result does not
depend on their number.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tessera.config import Recon
from tessera.recon.backends import Backend
from tessera.recon.spokes import Spokes

_EPS = 1e-4
_LANES = 8  # slices of one transform


class NufftBackend(Backend):
    """Filtered backprojection by finufft; threads share the parts of a slab."""

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        super().__init__(settings, angles_deg, columns, threads)
        self._spokes = Spokes(angles_deg, columns, settings.filter, settings.roi_extend)
        along, across = (
            2 * np.pi * np.outer(direction, self._spokes.frequency).astype(np.float32).ravel()
            for direction in (self._spokes.along, self._spokes.across)
        )
        # Both ends of each spoke; the middle counts half at either. Modes run over y, x.
        self._y, self._x = np.concatenate([along, -along]), np.concatenate([across, -across])

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        out = np.empty((sinograms.shape[1], self.columns, self.columns), np.float32)
        parts = [slice(i, min(i + _LANES, len(out))) for i in range(0, len(out), _LANES)]

        def work(part: slice) -> None:
            values = np.zeros((*self._spokes.shape, _LANES), np.complex64)
            with ThreadPoolExecutor(1) as alone:
                self._spokes.values(sinograms[:, part], axes[part], values, alone)
            self._transform(values, out[part])

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, parts))
        return out

    def _transform(self, values: np.ndarray, out: np.ndarray) -> None:
        # Loaded here: a machine without it reconstructs by another backend.
        import finufft

        # Of all lanes, however many are filled: no slice depends on how many there are beside it.
        pairs = _LANES // 2
        points = np.empty((pairs, self._y.size), np.complex64)
        half = self._y.size // 2
        for n in range(pairs):
            one, other = (values[..., 2 * n + k].ravel() for k in (0, 1))
            points[n, :half] = one + 1j * other
            points[n, half:] = one.conj() + 1j * other.conj()
        plan = finufft.Plan(
            1, (self.columns, self.columns), n_trans=pairs, eps=_EPS, isign=1,
            dtype="complex64", nthreads=1,
        )  # fmt: skip
        plan.setpts(self._y, self._x)
        made = plan.execute(points)
        out[0::2] = made.real[: -(-len(out) // 2)]
        out[1::2] = made.imag[: len(out) // 2]

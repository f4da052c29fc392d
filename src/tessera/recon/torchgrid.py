"""The gridder (:mod:`tessera.recon.gridder`) in torch, for machines with a GPU.

There the scatter is a product with a sparse matrix, each of whose rows gathers what falls onto one
cell of the grid: it needs no atomic additions, so the result does not change from run to run.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from tessera.compute import device
from tessera.config import Recon
from tessera.recon.backends import Backend
from tessera.recon.gridder import Geometry
from tessera.recon.spread import MARGIN, WIDTH, kernel

_LANES = 16  # slices at a time


class TorchBackend(Backend):
    """Filtered backprojection by gridding, as a sparse product."""

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        super().__init__(settings, angles_deg, columns, threads)
        self._geometry = Geometry(angles_deg, columns, settings.filter, settings.roi_extend)
        self._device = device.choose("fp32").device
        if self._device.type == "cpu":
            torch.set_num_threads(self.threads)
        self._matrix = self._gather()
        g = self._geometry
        self._down = torch.from_numpy(g.down).to(self._device)
        self._across = torch.from_numpy(g.across).to(self._device)
        self._places = torch.from_numpy(g.places).to(self._device)
        self._mirrored = torch.from_numpy(-np.arange(g.size) % g.size).to(self._device)

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        out = np.empty((sinograms.shape[1], self.columns, self.columns), np.float32)
        with ThreadPoolExecutor(self.threads) as pool, torch.inference_mode():
            for first in range(0, len(out), _LANES):
                part = slice(first, min(first + _LANES, len(out)))
                spokes = self._geometry.spokes
                values = np.empty((*spokes.shape, part.stop - part.start), np.complex64)
                spokes.values(sinograms[:, part], axes[part], values, pool)
                out[part] = self._pictures(values)
        return out

    def _gather(self) -> torch.Tensor:
        """The matrix (cells of the grid with its margins, points), sparse by rows."""
        g = self._geometry
        k = np.arange(g.spokes.shape[1])
        x = (np.outer(g.step, k) + g.size // 2 + MARGIN).ravel()
        y = (np.outer(g.rise, k) + MARGIN).ravel()
        column, row = np.ceil(x - WIDTH / 2), np.ceil(y - WIDTH / 2)
        steps = np.arange(WIDTH)
        across = kernel(column[:, None] + steps - x[:, None], g.beta).astype(np.float32)
        down = kernel(row[:, None] + steps - y[:, None], g.beta).astype(np.float32)
        width = g.size + 2 * MARGIN
        cells = (row[:, None, None] + steps[:, None]) * width + column[:, None, None] + steps
        weights = torch.from_numpy((down[:, :, None] * across[:, None, :]).ravel())
        points = torch.arange(len(x)).repeat_interleave(WIDTH**2)
        number, order = torch.sort(torch.from_numpy(cells.astype(np.int64).ravel()), stable=True)
        height = g.size // 2 + 1 + 2 * MARGIN
        starts = torch.searchsorted(number, torch.arange(height * width + 1))
        with warnings.catch_warnings():  # that CSR is new; a product with it is all that is needed
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            matrix = torch.sparse_csr_tensor(
                starts,
                points[order],
                weights[order],
                (height * width, len(x)),
                check_invariants=False,
            )
        return matrix.to(self._device)

    def _pictures(self, values: np.ndarray) -> np.ndarray:
        g, lanes = self._geometry, values.shape[2]
        points = torch.from_numpy(values.view(np.float32).reshape(-1, 2 * lanes))
        grid = self._matrix @ points.to(self._device)
        grid = torch.view_as_complex(grid.reshape(-1, g.size + 2 * MARGIN, lanes, 2))
        half = self._fold(grid)
        made = torch.fft.ifft(half, dim=1, norm="forward")[:, self._places]
        made = torch.fft.irfft(made * self._across[:, None], g.size, dim=0, norm="forward")
        made = made[self._places] * self._down[:, None, None]
        return np.asarray(made.permute(2, 0, 1).cpu().numpy())

    def _fold(self, grid: torch.Tensor) -> torch.Tensor:
        """As :func:`tessera.recon.gridder.fold`."""
        size = self._geometry.size
        grid[:, size : size + MARGIN] += grid[:, :MARGIN]
        grid[:, MARGIN : 2 * MARGIN] += grid[:, size + MARGIN :]
        plane = grid[:, MARGIN:-MARGIN]
        last = len(grid) - 1 - MARGIN
        for k in range(MARGIN + 1):
            plane[MARGIN + k] += plane[MARGIN - k][self._mirrored].conj()
            plane[last - k] += plane[last + k][self._mirrored].conj()
        return plane[MARGIN : last + 1]

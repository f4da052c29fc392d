"""tomopy's gridrec behind the same interface; it runs where envs/recon.yaml is the environment.

gridrec as shipped pads nothing, so a uniform disc reads 0.70 in the middle at power-of-two widths;
padded it converges to a constant factor off one; and the odd slice of each pair silently takes its
neighbour's centre. So sinograms are padded here, the factor is measured on a disc, and each pair
gets one centre.
"""

from __future__ import annotations

import numpy as np

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.recon.backends import Backend
from tessera.recon.extend import Extension

_NAMES = {"ramp": "ramlak", "none": "none", "shepp": "shepp", "parzen": "parzen"}
_NAMES |= {"cosine": "cosine", "hann": "hann", "hamming": "hamming"}


class GridrecBackend(Backend):
    """Filtered backprojection by tomopy's gridrec, a pair of rows at a time."""

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        super().__init__(settings, angles_deg, columns, threads)
        try:
            import tomopy
        except ImportError:
            raise TesseraError(
                "recon.backend: tomopy is not installed here; create the environment of "
                "envs/recon.yaml and run the workflow with --sdm conda, or use backend: gridder"
            ) from None
        self._tomopy = tomopy
        self._theta = np.deg2rad(angles_deg)
        self.truncated = settings.roi_extend
        self.length = (3 if self.truncated else 2) * columns
        self._filter = _NAMES[settings.filter]
        self._scale = 1.0
        self._scale = self._measured_scale()

    def _measured_scale(self) -> float:
        """What a uniform disc of 1 a pixel must be multiplied by to read 1."""
        radius = 0.4 * self.columns
        axis = (self.columns - 1) / 2
        s = np.arange(self.columns) - axis
        shadow = 2 * np.sqrt(np.maximum(radius**2 - s**2, 0))
        disc = np.broadcast_to(shadow, (len(self._theta), 2, self.columns)).astype(np.float32)
        made = self(disc, np.array([axis, axis]))[0]
        y, x = np.mgrid[: self.columns, : self.columns] - axis
        return float(1 / made[np.hypot(y, x) < 0.5 * radius].mean())

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        extension = Extension(sinograms, self.length, self.truncated, np.asarray(axes))
        padded = extension.padded()
        out = np.empty((sinograms.shape[1], self.columns, self.columns), np.float32)
        for first in range(0, len(out), 2):
            pair = slice(first, min(first + 2, len(out)))
            centre = float(np.mean(axes[pair])) + extension.before
            made = self._tomopy.recon(
                padded[:, pair], self._theta, center=centre, algorithm="gridrec",
                filter_name=self._filter, ncore=self.threads,
            )  # fmt: skip
            # gridrec turns about the pixel at length // 2 and its y runs downwards.
            edge = self.length // 2 - (self.columns - 1) // 2
            part = slice(edge, edge + self.columns)
            out[pair] = made[:, part, part][:, ::-1]
        return out * self._scale

"""SIRT and CGLS by the ASTRA toolbox (doi:10.1016/j.ultramic.2015.05.002), an optional extra.

For few angles, where filtered backprojection streaks. ASTRA is GPL-3, so it is imported only when
it is asked for. Its y points up, and its pixels have a side of 1, which is the scale wanted here.
"""

from __future__ import annotations

import numpy as np

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.recon.backends import Backend
from tessera.recon.extend import Extension

_WIDER = 2  # a truncated sinogram is of a body that may be this much wider than the detector


class AstraBackend(Backend):
    """SIRT or CGLS, which needs about ten times fewer iterations; in one thread."""

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        super().__init__(settings, angles_deg, columns, threads)
        algorithm = settings.backend
        if settings.axis.half_acquisition:
            raise TesseraError(
                f"recon.backend: {algorithm} cannot do half acquisition, whose projections are "
                "weighted; use backend: gridder"
            )
        try:
            import astra
        except ImportError:
            raise TesseraError(
                f"recon.backend: {algorithm} needs the ASTRA toolbox, which is not installed here; "
                "pip install astra-toolbox, or use backend: gridder"
            ) from None
        self._astra = astra
        self._theta = np.deg2rad(angles_deg)
        self.truncated = settings.roi_extend
        self._algorithm, self._iterations = algorithm, settings.iterations

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        side = self.columns * (_WIDER if self.truncated else 1)
        extension = Extension(sinograms, side, self.truncated, np.asarray(axes))
        padded = extension.padded()
        first = (side - self.columns) // 2
        part = slice(first, first + self.columns)
        return np.stack(
            [
                self._slice(padded[:, row], float(axes[row]) + extension.before, part)
                for row in range(padded.shape[1])
            ]
        )

    def _slice(self, sinogram: np.ndarray, axis: float, part: slice) -> np.ndarray:
        astra, side = self._astra, sinogram.shape[1]
        along = np.stack([np.cos(self._theta), -np.sin(self._theta)], axis=1)
        ray = np.stack([np.sin(self._theta), np.cos(self._theta)], axis=1)
        # The middle of the slice is the middle of the part that is kept.
        middle = np.array([1.0, -1.0]) * ((part.start + part.stop - 1) / 2 - (side - 1) / 2)
        vectors = np.hstack([ray, middle + ((side - 1) / 2 - axis) * along, along])
        volume = astra.create_vol_geom(side, side)
        projector = astra.create_projector(
            "linear", astra.create_proj_geom("parallel_vec", side, vectors), volume
        )
        shown = astra.data2d.create("-sino", astra.projector.projection_geometry(projector))
        made = astra.data2d.create("-vol", volume, 0.0)
        astra.data2d.store(shown, sinogram)
        settings = astra.astra_dict(self._algorithm.upper())
        settings |= {
            "ProjectionDataId": shown, "ReconstructionDataId": made, "ProjectorId": projector,
        }  # fmt: skip
        run = astra.algorithm.create(settings)
        astra.algorithm.run(run, self._iterations)
        picture = astra.data2d.get(made)
        astra.algorithm.delete(run)
        astra.data2d.delete([shown, made])
        astra.projector.delete(projector)
        return np.asarray(picture[part, part], np.float32)

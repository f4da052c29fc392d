"""One interface to all reconstructions: sinograms in, slices of the true scale out.

``gridder`` is the default: on a CPU it is the fastest. ``finufft`` is its independent peer,
``torch`` the same method on a GPU, ``tomopy`` gridrec, ``sirt`` and ``cgls`` are iterative.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tessera.config import Recon
from tessera.errors import TesseraError


class Backend(Protocol):
    """A reconstruction of one scan's geometry.

    A uniform disc of 1 a pixel reads 1.00 in all of them, the rotation axis is at the middle of the
    slice, and a point (y, x) relative to it falls on column ``axis + x cos + y sin``.
    """

    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """Return slices (rows, y, x), float32, per pixel, of sinograms (angles, rows, columns).

        Args:
            sinograms: line integrals, float32; they may be narrower than the slice.
            axes: (rows,) rotation axis of each row, as a pixel-centre column.
        """


def make_backend(
    settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
) -> Backend:
    """Return the backend that the settings name.

    Args:
        settings: backend, filter, and whether the specimen may be wider than the detector.
        angles_deg: (angles,) over 180 or 360 degrees.
        columns: slices are columns x columns.
        threads: of this process.

    Raises:
        TesseraError: it is not installed here, or cannot do what the settings ask.
    """
    name, truncated = settings.backend, settings.roi_extend
    if name in ("sirt", "cgls"):
        if settings.axis.half_acquisition:
            raise TesseraError(
                f"recon.backend: {name} cannot do half acquisition, whose projections are "
                "weighted; use backend: gridder"
            )
        from tessera.recon.iterative import AstraBackend

        return AstraBackend(angles_deg, columns, truncated, name, settings.iterations)
    if name == "tomopy":
        from tessera.recon.gridrec import GridrecBackend

        return GridrecBackend(angles_deg, columns, settings.filter, truncated, threads)
    if name == "finufft":
        from tessera.recon.nufft import NufftBackend

        return NufftBackend(angles_deg, columns, settings.filter, truncated, threads)
    if name == "torch":
        from tessera.recon.torchgrid import TorchBackend

        return TorchBackend(angles_deg, columns, settings.filter, truncated, threads)
    from tessera.recon.gridder import GridderBackend

    return GridderBackend(angles_deg, columns, settings.filter, truncated, threads)

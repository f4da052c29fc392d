"""One interface to all reconstructions: sinograms in, slices of the true scale out.

``gridder`` is the default: on a CPU it is the fastest. ``finufft`` is its independent peer,
``torch`` the same method on a GPU, ``tomopy`` gridrec, ``sirt`` and ``cgls`` are iterative. A
backend is one file and one line here; its library is loaded when it is asked for.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod

import numpy as np

from tessera.config import Recon

# name in the config -> "module:class"
BACKENDS = {
    "gridder": "tessera.recon.gridder:GridderBackend",
    "finufft": "tessera.recon.nufft:NufftBackend",
    "torch": "tessera.recon.torchgrid:TorchBackend",
    "tomopy": "tessera.recon.gridrec:GridrecBackend",
    "sirt": "tessera.recon.iterative:AstraBackend",
    "cgls": "tessera.recon.iterative:AstraBackend",
}


class Backend(ABC):
    """A reconstruction of one scan's geometry: the contract of all backends.

    A uniform disc of 1 a pixel reads 1.00 in all of them, the rotation axis is at the middle of the
    slice, and a point (y, x) relative to it falls on column ``axis + x cos + y sin``. What a slice
    is depends neither on the rows beside it nor on the number of threads.

    Args:
        settings: filter, iterations, and whether the specimen may be wider than the detector.
        angles_deg: (angles,) over 180 or 360 degrees, evenly spaced.
        columns: slices are columns x columns.
        threads: of this process.

    Raises:
        TesseraError: it is not installed here, or cannot do what the settings ask.
    """

    def __init__(
        self, settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
    ) -> None:
        self.columns, self.threads = columns, max(1, threads)

    @abstractmethod
    def __call__(self, sinograms: np.ndarray, axes: np.ndarray) -> np.ndarray:
        """Return slices (rows, y, x), float32, per pixel, of sinograms (angles, rows, columns).

        Args:
            sinograms: line integrals, float32; they may be narrower than the slice.
            axes: (rows,) rotation axis of each row, as a pixel-centre column.
        """


def make_backend(
    settings: Recon, angles_deg: np.ndarray, columns: int, threads: int = 1
) -> Backend:
    """Return the backend that the settings name; arguments and errors are :class:`Backend`'s."""
    module, kind = BACKENDS[settings.backend].split(":")
    made = getattr(importlib.import_module(module), kind)(settings, angles_deg, columns, threads)
    assert isinstance(made, Backend)
    return made

"""Scans as NXtomo (https://manual.nexusformat.org/classes/applications/NXtomo.html).

One stack in the order of the measurement; ``image_key`` says what each frame is: 0 a projection,
1 a flat, 2 a dark, 3 one to leave out. So flats know when they were taken.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tessera.errors import TesseraError
from tessera.formats.hdf5 import (
    Hdf5Scan,
    frames,
    is_radians,
    length_um,
    read_frames,
    rows_together,
)
from tessera.formats.scan import ALL, ScanHeader, plausible_pixel

_PROJECTION, _FLAT, _DARK = 0, 1, 2
_DETECTOR = "instrument/detector"
# NXtomo's z is the beam, y is up: those are y and z of the specimen.
_SPECIMEN = ("sample/y_translation", "sample/z_translation", "sample/x_translation")


def find_entry(file: h5py.File) -> h5py.Group | None:
    """Return the first group that holds an NXtomo, or None."""
    for name in file:
        entry = file.get(name)
        if isinstance(entry, h5py.Group) and f"{_DETECTOR}/image_key" in entry:
            return entry
    return None


class NxTomo(Hdf5Scan):
    """An NXtomo file, or the first entry of one."""

    def __init__(self, path: Path, file: h5py.File, entry: h5py.Group) -> None:
        super().__init__(path, file)
        stack = frames(entry, f"{_DETECTOR}/data", self.path)
        if stack is None:
            raise TesseraError(f"{path}: holds no frames ({entry.name}/{_DETECTOR}/data); add them")
        keys = np.asarray(entry[f"{_DETECTOR}/image_key"][...]).reshape(-1).astype(int)
        if len(keys) != len(stack):
            raise TesseraError(
                f"{path}: {len(keys)} image keys but {len(stack)} frames; give one for each"
            )
        self._stack = stack
        self._of = {k: np.flatnonzero(keys == k) for k in (_PROJECTION, _FLAT, _DARK)}
        self._need(len(self._of[_PROJECTION]), "projections (image_key 0)")
        self._need(len(self._of[_FLAT]), "flats (image_key 1)")
        self._need(len(self._of[_DARK]), "darks (image_key 2)")
        self.angles_deg = self._angles(entry, len(keys))
        first, last = int(self._of[_PROJECTION][0]), int(self._of[_PROJECTION][-1])
        self.flat_times = np.clip((self._of[_FLAT] - first) / max(last - first, 1), 0.0, 1.0)
        pixel, said = plausible_pixel(
            length_um(entry, f"{_DETECTOR}/x_pixel_size", self.path, "m", only=False)
        )
        moved = [length_um(entry, name, self.path, "m", only=False) for name in _SPECIMEN]
        z, y, x = moved
        self.header = ScanHeader(
            rows=stack.shape[1],
            columns=stack.shape[2],
            angles=len(self._of[_PROJECTION]),
            pixel_um=pixel,
            position_um=None if z is None or x is None else (z, y or 0.0, x),
            kind="NXtomo",
            dtype=str(stack.dtype),
            rows_together=rows_together(stack),
            pixel_said=said,
        )

    def _angles(self, entry: h5py.Group, count: int) -> np.ndarray | None:
        turn = entry.get("sample/rotation_angle")
        if turn is None:
            return None
        angles = np.asarray(turn[...], float).reshape(-1)
        if is_radians(turn):
            angles = np.rad2deg(angles)
        if len(angles) == count:
            return np.asarray(angles[self._of[_PROJECTION]])
        return angles  # of projections alone, or wrong in number: check_angles says so

    def projections(self, rows: slice, angles: slice = ALL) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._stack, self._of[_PROJECTION][angles], rows, self.path)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._stack, self._of[_FLAT], rows, self.path)

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._stack, self._of[_DARK], rows, self.path)

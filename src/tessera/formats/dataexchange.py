"""Scans as APS Data Exchange (doi:10.1107/S160057751401604X).

``/exchange/data`` (angles, rows, columns), ``data_white``, ``data_dark``, and ``theta`` in degrees.
Detectors drop frames: then ``/defaults/NDArrayUniqueId`` holds the number that each saved frame
was given, and ``/defaults/HDF5FrameLocation`` into which of the three stacks each went, both in the
order of the measurement. They say which angles are there, and which flats were taken when.

The stage's axes are the beamline's: x across the beam, y up, z along the beam; they become x, z
and y of the specimen.
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
    read_part,
    rows_together,
    text,
)
from tessera.formats.scan import ALL, ScanHeader, Vector, plausible_pixel

_PIXEL = (
    "measurement/instrument/detection_system/objective/resolution",
    "measurement/instrument/detector/actual_pixel_size_x",
    "measurement/instrument/detector/pixel_size_x",
    "measurement/instrument/detector/pixel_size",
)
_STAGE = "measurement/instrument/sample_motor_stack/setup/"
_DATA, _WHITE, _DARK = "exchange/data", "exchange/data_white", "exchange/data_dark"


class DataExchange(Hdf5Scan):
    """An APS Data Exchange file."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        super().__init__(path, file)
        white, dark = frames(file, _WHITE, self.path), frames(file, _DARK, self.path)
        data = frames(file, _DATA, self.path)
        assert data is not None
        self._need(len(data), "projections (/exchange/data)")
        self._need(0 if white is None else len(white), "flats (/exchange/data_white)")
        self._need(0 if dark is None else len(dark), "darks (/exchange/data_dark)")
        assert white is not None and dark is not None
        for name, stack in (("flats", white), ("darks", dark)):
            if stack.shape[1:] != data.shape[1:]:
                raise TesseraError(
                    f"{path}: {name} are {_size(stack)} pixels but projections {_size(data)}; "
                    "give flats and darks of the same detector region"
                )
        self._data, self._white, self._dark = data, white, dark
        self.angles_deg = self._angles(len(data))
        self.flat_times = self._flat_times(len(white))
        pixel, said = plausible_pixel(_pixel_um(file, self.path))
        self.header = ScanHeader(
            rows=data.shape[1],
            columns=data.shape[2],
            angles=len(data),
            pixel_um=pixel,
            position_um=_position(file, self.path),
            kind="Data Exchange",
            dtype=str(data.dtype),
            rows_together=rows_together(data),
            pixel_said=said,
        )

    def projections(self, rows: slice, angles: slice = ALL) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_part(self._data, (angles, rows), self.path)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_part(self._white, (ALL, rows), self.path)

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_part(self._dark, (ALL, rows), self.path)

    def _numbers(self, stack: str) -> np.ndarray | None:
        """Numbers that the detector gave to the frames of one stack; None if it kept none."""
        given = self._file.get("defaults/NDArrayUniqueId")
        if given is None:
            return None
        numbers = np.asarray(given[...]).reshape(-1).astype(np.int64)
        where = self._file.get("defaults/HDF5FrameLocation")
        if where is None:
            return numbers if stack == _DATA else None
        places = np.array([text(p).strip("/") for p in np.asarray(where[...]).reshape(-1)])
        if len(places) != len(numbers):
            return None
        return np.asarray(numbers[places == stack])

    def _angles(self, count: int) -> np.ndarray | None:
        theta = self._file.get("exchange/theta")
        if theta is None:
            return None
        angles = np.asarray(theta[...], float).reshape(-1)
        if is_radians(theta):
            angles = np.rad2deg(angles)
        numbers = self._numbers(_DATA)
        if len(angles) <= count or numbers is None or len(numbers) != count:
            return angles
        # More angles than frames: each frame's number, counted from the first, names its angle.
        places = numbers - numbers[0]
        if np.any(np.diff(places) <= 0) or places[-1] >= len(angles):
            raise TesseraError(
                f"{self.path}: {len(angles)} angles but {count} projections, and the frames' "
                "numbers (NDArrayUniqueId) do not say which are missing; give one angle for each"
            )
        return np.asarray(angles[places])

    def _flat_times(self, count: int) -> np.ndarray:
        """By the frames' numbers where they are kept; else all flats count as taken before."""
        flats, data = self._numbers(_WHITE), self._numbers(_DATA)
        if flats is None or data is None or len(flats) != count or not len(data):
            return np.zeros(count)
        return np.clip((flats - data[0]) / max(int(data[-1] - data[0]), 1), 0.0, 1.0)


def _size(stack: h5py.Dataset) -> str:
    return f"{stack.shape[1]} x {stack.shape[2]}"


def _pixel_um(file: h5py.File, path: str) -> float | None:
    for name in _PIXEL:
        value = length_um(file, name, path)
        if value is not None:
            return value
    return None


def _position(file: h5py.File, path: str) -> Vector | None:
    """The stage's x (across), y (up), z (along the beam) as z, y, x of the specimen."""
    for prefix in ("", "sample_"):
        across, up, along = (
            length_um(file, f"{_STAGE}{prefix}{axis}", path, "mm", only=False) for axis in "xyz"
        )
        if across is not None and up is not None:
            return up, along or 0.0, across
    return None

"""Scans in HDF5: APS Data Exchange and NXtomo.

Data Exchange: ``/exchange/data`` (angles, rows, columns), ``data_white``, ``data_dark``, ``theta``
in degrees; where frames went missing, ``/defaults/NDArrayUniqueId`` says which angle each frame
has (doi:10.1107/S160057751401604X). NXtomo: one stack whose ``image_key`` is 0 for projections,
1 for flats, 2 for darks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors compress with
import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import Scan, ScanHeader, Vector, check_pixel

_UM = {"um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "mm": 1e3, "m": 1e6}
_UM |= {"nm": 1e-3, "cm": 1e4, "": 1.0}
_PIXEL = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detection_system/objective/resolution",
    "process/acquisition/pixel_size",
)
_STAGE = "measurement/instrument/sample_motor_stack/setup/"


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        TesseraError: it is not one, or was cut off.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise TesseraError(f"{path}: no such file") from None
    except OSError as error:
        what = "is cut off" if "truncated" in str(error) else "is not a readable HDF5 file"
        raise TesseraError(f"{path}: {what} ({error}); copy it again") from None


def open_hdf5_scan(path: Path) -> Scan:
    """Open a Data Exchange or NXtomo file, whichever it is."""
    file = open_hdf5(path)
    try:
        if "exchange/data" in file:
            return DataExchange(path, file)
        entry = _nxtomo_entry(file)
        if entry is not None:
            return NxTomo(path, file, entry)
        raise TesseraError(
            f"{path}: is neither Data Exchange (/exchange/data) nor NXtomo (image_key); convert "
            "it to one of them"
        )
    except BaseException:
        file.close()
        raise


def read_frames(data: h5py.Dataset, where: Any, path: str) -> np.ndarray:
    """Read part of a dataset; a missing filter or a torn chunk is one sentence."""
    try:
        return np.asarray(data[where])
    except OSError as error:
        why = (
            "is compressed with a filter that is not installed"
            if "filter" in str(error)
            else "cannot be read, the file is torn"
        )
        raise TesseraError(f"{path}: {data.name} {why} ({error}); write it again") from None


class _Hdf5Scan:
    """What both formats share: which frames of which dataset are what."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = str(path)
        self._file = file
        self.angles_deg: np.ndarray | None = None
        self.flat_times = np.zeros(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _need(self, count: int, what: str) -> None:
        if not count:
            raise TesseraError(
                f"{self.path}: holds no {what}; without them absorption cannot be computed: "
                f"add the scan's {what}"
            )


class DataExchange(_Hdf5Scan):
    """An APS Data Exchange file."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        super().__init__(path, file)
        self._data = file["exchange/data"]
        self._white = file.get("exchange/data_white")
        self._dark = file.get("exchange/data_dark")
        self._need(0 if self._white is None else len(self._white), "flats (data_white)")
        self._need(0 if self._dark is None else len(self._dark), "darks (data_dark)")
        if self._data.ndim != 3:
            raise TesseraError(f"{path}: /exchange/data has {self._data.ndim} axes; it needs 3")
        for name, frames in (("data_white", self._white), ("data_dark", self._dark)):
            if frames.shape[1:] != self._data.shape[1:]:
                raise TesseraError(
                    f"{path}: frames of {name} are {frames.shape[1:]} pixels but projections "
                    f"{self._data.shape[1:]}; give flats and darks of the same detector region"
                )
        count, rows, columns = self._data.shape
        self.angles_deg = self._angles(count)
        self.flat_times = _flat_times(file, len(self._white))
        pixel = next((v for p in _PIXEL if (v := _length_um(file, p, str(path))) is not None), None)
        self.header = ScanHeader(
            rows,
            columns,
            count,
            check_pixel(pixel, str(path)),
            _position(file, str(path)),
            "Data Exchange",
        )

    def _angles(self, count: int) -> np.ndarray | None:
        theta = self._file.get("exchange/theta")
        if theta is None:
            return None
        angles = np.asarray(theta[...], float).reshape(-1)
        unit = str(_text(theta.attrs.get("units", "degrees"))).lower()
        if unit.startswith("rad"):
            angles = np.rad2deg(angles)
        ids = self._file.get("defaults/NDArrayUniqueId")
        if len(angles) != count and ids is not None:
            # Frames went missing: each frame's number says which angle it has.
            numbers = np.asarray(ids[...]).reshape(-1).astype(int)
            first = numbers[0] if len(numbers) else 0
            numbers = numbers - first
            if len(numbers) == count and numbers.max() < len(angles):
                angles = angles[numbers]
        return angles

    def projections(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._data, (slice(None), rows), self.path)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._white, (slice(None), rows), self.path)

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return read_frames(self._dark, (slice(None), rows), self.path)


class NxTomo(_Hdf5Scan):
    """An NXtomo file (https://manual.nexusformat.org/classes/applications/NXtomo.html)."""

    def __init__(self, path: Path, file: h5py.File, entry: h5py.Group) -> None:
        super().__init__(path, file)
        detector = entry["instrument/detector"]
        self._stack = detector["data"]
        keys = np.asarray(detector["image_key"][...]).reshape(-1).astype(int)
        if len(keys) != len(self._stack):
            raise TesseraError(
                f"{path}: {len(keys)} image keys but {len(self._stack)} frames; give one for each"
            )
        self._of = {k: np.flatnonzero(keys == k) for k in (0, 1, 2)}
        self._need(len(self._of[0]), "projections (image_key 0)")
        self._need(len(self._of[1]), "flats (image_key 1)")
        self._need(len(self._of[2]), "darks (image_key 2)")
        turn = entry.get("sample/rotation_angle")
        if turn is not None:
            angles = np.asarray(turn[...], float).reshape(-1)
            if len(angles) != len(keys):
                raise TesseraError(
                    f"{path}: {len(angles)} angles but {len(keys)} frames; give one for each"
                )
            if str(_text(turn.attrs.get("units", "deg"))).lower().startswith("rad"):
                angles = np.rad2deg(angles)
            self.angles_deg = angles[self._of[0]]
        first, last = self._of[0][0], max(self._of[0][-1], self._of[0][0] + 1)
        self.flat_times = np.clip((self._of[1] - first) / (last - first), 0.0, 1.0)
        pixel = None
        for name in ("x_pixel_size", "pixel_size"):
            if pixel is None:
                pixel = _length_um(detector, name, str(path))
        moved = [_length_um(entry, f"sample/{a}_translation", str(path), first=True) for a in "zyx"]
        rows, columns = self._stack.shape[1:]
        self.header = ScanHeader(
            rows,
            columns,
            len(self._of[0]),
            check_pixel(pixel, str(path)),
            None if None in moved else (moved[0], moved[1], moved[2]),  # type: ignore[arg-type]
            "NXtomo",
        )

    def _read(self, key: int, rows: slice) -> np.ndarray:
        return read_frames(self._stack, (self._of[key], rows), self.path)

    def projections(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read(0, rows)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read(1, rows)

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read(2, rows)


def _nxtomo_entry(file: h5py.File) -> h5py.Group | None:
    for name in file:
        if isinstance(file[name], h5py.Group) and "instrument/detector/image_key" in file[name]:
            return file[name]
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _length_um(file: h5py.Group, name: str, path: str, first: bool = False) -> float | None:
    """A length in micrometres, by the unit that stands beside it; None if it is not there."""
    data = file.get(name)
    if data is None:
        return None
    unit = _text(data.attrs.get("units", "um")).strip()
    if unit not in _UM:
        raise TesseraError(f"{path}: {data.name} is in '{unit}', which is no length; use um")
    values = np.asarray(data[...], float).reshape(-1)
    if len(values) == 0 or (len(values) > 1 and not first):
        return None
    return float(values[0]) * _UM[unit]


def _position(file: h5py.File, path: str) -> Vector | None:
    values = [_length_um(file, _STAGE + axis, path) for axis in "zyx"]
    z, y, x = values
    return None if z is None or y is None or x is None else (z, y, x)


def _flat_times(file: h5py.File, count: int) -> np.ndarray:
    """0 for flats before the scan, 1 for those after, where the file says; else 0 for all."""
    after = file.get("exchange/data_white_after_count")
    times = np.zeros(count)
    if after is not None:
        times[count - int(np.asarray(after[...])) :] = 1.0
    return times

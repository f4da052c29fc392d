"""What scans and volumes in HDF5 share: opening, reading, filters, lengths with units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors compress with
import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import Scan, ScanHeader

_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "micrometer": 1.0, "micrometre": 1.0}
_UM |= {"nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "m": 1e6}
_UM |= {"angstrom": 1e-4, "meter": 1e6}


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        TesseraError: it is not one, or was cut off.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise TesseraError(f"{path}: no such file; give the path of an HDF5 file") from None
    except PermissionError:
        raise TesseraError(f"{path}: may not be read; ask its owner for the right to") from None
    except OSError as error:
        if "truncated" in str(error):
            what = "is cut off (an HDF5 file that is shorter than it says); copy it again"
        elif "lock" in str(error):
            what = "is still being written; wait until the scan is finished"
        else:
            what = "is not a readable HDF5 file; copy it again, or give another file"
        raise TesseraError(f"{path}: {what}") from None


def open_hdf5_scan(path: Path) -> Scan:
    """Open a Data Exchange or NXtomo file, whichever it is.

    Raises:
        TesseraError: it is neither, or lacks something that a scan needs.
    """
    from tessera.formats.dataexchange import DataExchange
    from tessera.formats.nxtomo import NxTomo, find_entry

    file = open_hdf5(path)
    try:
        if "exchange/data" in file:
            return DataExchange(path, file)
        entry = find_entry(file)
        if entry is not None:
            return NxTomo(path, file, entry)
        raise TesseraError(
            f"{path}: is neither Data Exchange (/exchange/data) nor NXtomo (image_key); convert "
            "it to one of them"
        )
    except BaseException:
        file.close()
        raise


class Hdf5Scan:
    """What both formats share: an open file, and one sentence for what is missing."""

    header: ScanHeader

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
                f"{self.path}: holds no {what}, and without them absorption cannot be computed; "
                f"add the scan's {what}"
            )


def frames(file: h5py.Group, name: str, path: str) -> h5py.Dataset | None:
    """Return a stack of frames, or None if it is not there.

    Raises:
        TesseraError: it is no stack of numbers, its file is elsewhere and missing, or its
            compression filter is not installed.
    """
    if name not in file:
        return None
    try:
        data = file[name]
    except KeyError:
        raise TesseraError(
            f"{path}: /{name} points to another file that is not there; copy that file too"
        ) from None
    if not isinstance(data, h5py.Dataset) or data.ndim != 3 or data.dtype.kind not in "uif":
        shape = f"an array of shape {data.shape}" if isinstance(data, h5py.Dataset) else "a group"
        raise TesseraError(
            f"{path}: /{name} is {shape}; it needs three axes (frames, rows, columns) of numbers"
        )
    require_filters(data, path)
    return data


def require_filters(data: h5py.Dataset, path: str | Path) -> None:
    """Refuse a dataset that cannot be decompressed here, before anything is read of it."""
    made = data.id.get_create_plist()
    for number in range(made.get_nfilters()):
        code, _flags, _values, name = made.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            called = name.decode(errors="replace") or "without a name"
            raise TesseraError(
                f"{path}: {data.name} is compressed with HDF5 filter {code} ({called}), which is "
                "not installed; install its plugin and set HDF5_PLUGIN_PATH, or write the file "
                "again without it"
            )


def read_part(data: h5py.Dataset, where: Any, path: str) -> np.ndarray:
    """Read part of a dataset.

    Raises:
        TesseraError: the file is torn there.
    """
    try:
        return np.asarray(data[where])
    except OSError as error:
        why = " ".join(str(error).split())
        raise TesseraError(
            f"{path}: {data.name} cannot be read ({why}); the file is torn, copy it again"
        ) from None


def read_frames(data: h5py.Dataset, numbers: np.ndarray, rows: slice, path: str) -> np.ndarray:
    """Read some frames' rows, run by run: HDF5 is slow on lists of single frames."""
    parts = [read_part(data, (run, rows), path) for run in _runs(numbers)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _runs(numbers: np.ndarray) -> Iterator[slice]:
    """Cut ascending numbers into slices."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    for part in np.split(numbers, breaks):
        yield slice(int(part[0]), int(part[-1]) + 1)


def rows_together(data: h5py.Dataset) -> int:
    """Rows of a chunk: what is decompressed together."""
    return int(data.chunks[1]) if data.chunks else 1


def text(value: Any) -> str:
    """Return what HDF5 holds as bytes, a text, or an array of one, as a text."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def length_um(
    file: h5py.Group, name: str, path: str, unit: str = "um", only: bool = True
) -> float | None:
    """Return a length in micrometres, by the unit that stands beside it.

    Args:
        file: where to look.
        name: of the dataset.
        path: of the file, for messages.
        unit: which the file means if it says none.
        only: more than one value means nothing; else the first is taken.

    Raises:
        TesseraError: the unit is not one of length.
    """
    data = file.get(name)
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "uif":
        return None
    said = text(data.attrs.get("units", data.attrs.get("unit", unit))).strip() or unit
    scale = um_per(said)
    if scale is None:
        raise TesseraError(f"{path}: {data.name} is in '{said}', which is no length; use um")
    values = np.asarray(data[...], float).reshape(-1)
    if not len(values) or (len(values) > 1 and only):
        return None
    return float(values[0]) * scale


def um_per(unit: str) -> float | None:
    """Return how many micrometres a unit is; None if it is none of length."""
    return _UM.get(unit, _UM.get(unit.lower().removesuffix("s") if len(unit) > 2 else unit))


def is_radians(data: h5py.Dataset) -> bool:
    """True if a dataset's unit says radians."""
    return text(data.attrs.get("units", "")).strip().lower().startswith("rad")

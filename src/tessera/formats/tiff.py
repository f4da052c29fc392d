"""A scan as TIFF files: a folder with ``projections``, ``flats`` and ``darks`` below it.

Each holds one TIFF a frame, in the order of their numbers, or one TIFF of many pages.
``flats_after`` may hold flats taken after the scan. ``theta.txt`` beside them holds one angle in
degrees a line; without it the config gives the range. Pixel and position stand in ``scan.json``
(:mod:`tessera.formats.beside`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from tessera.errors import TesseraError
from tessera.formats.scan import ALL, ScanHeader

_FOLDERS = {
    "projections": ("projections", "proj", "projs", "tomo"),
    "flats": ("flats", "flat", "flats_before", "white"),
    "darks": ("darks", "dark"),
    "flats_after": ("flats_after", "flat_after"),
}
_SUFFIXES = (".tif", ".tiff")


def tiffs_in(folder: Path) -> list[Path]:
    """Return a folder's TIFFs in the order of the numbers in their names: 2 comes before 10."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    return sorted(found, key=by_number)


def by_number(path: Path) -> tuple[tuple[int, str], ...]:
    """Sort key of a name that holds numbers."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in parts)


class _Stack:
    """Frames of one kind: one file each, or all in one."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        try:
            with tifffile.TiffFile(files[0]) as first:
                page, pages = first.pages[0], len(first.pages)
                self.size, self.dtype = tuple(page.shape), np.dtype(page.dtype)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise _unreadable(files[0], error) from None
        self.single = len(files) == 1 and pages > 1
        self.count = pages if self.single else len(files)

    def read(self, rows: slice, frames: slice = ALL) -> np.ndarray:
        if self.single:
            with tifffile.TiffFile(self.files[0]) as file:
                pages = [file.pages[n] for n in range(self.count)[frames]]
                return np.stack([self._part(self.files[0], p, rows) for p in pages])
        return np.stack([self._rows(file, rows) for file in self.files[frames]])

    def _rows(self, path: Path, rows: slice) -> np.ndarray:
        try:
            with tifffile.TiffFile(path) as file:
                return self._part(path, file.pages[0], rows)
        except (OSError, tifffile.TiffFileError) as error:
            raise _unreadable(path, error) from None

    def _part(self, path: Path, page: Any, rows: slice) -> np.ndarray:
        if tuple(page.shape) != self.size:
            raise TesseraError(
                f"{path}: is {page.shape} pixels but the first frame is {self.size}; give frames "
                "of one size"
            )
        try:
            # A memory map reads the rows' own bytes; compressed files are read whole.
            if page.is_memmappable:
                return np.array(tifffile.memmap(path, page=page.index, mode="r")[rows])
            return np.array(page.asarray()[rows])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> TesseraError:
    return TesseraError(f"{path}: cannot be read as TIFF ({error}); copy it again")


class TiffScan:
    """A folder of TIFF frames."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        stacks: dict[str, _Stack] = {}
        for kind, names in _FOLDERS.items():
            files = next((f for n in names if (f := tiffs_in(path / n))), [])
            if files:
                stacks[kind] = _Stack(files)
            elif kind != "flats_after":
                raise TesseraError(
                    f"{path}: holds no {kind}; put their TIFFs in {path / _FOLDERS[kind][0]}"
                )
        size = stacks["projections"].size
        for kind, stack in stacks.items():
            if stack.size != size or len(size) != 2:
                raise TesseraError(
                    f"{path}: {kind} are {stack.size} pixels but projections {size}; give gray "
                    "frames of one detector region"
                )
        self._stacks = stacks
        theta = path / "theta.txt"
        self.angles_deg = _read_angles(theta) if theta.exists() else None
        after = stacks["flats_after"].count if "flats_after" in stacks else 0
        self.flat_times = np.repeat([0.0, 1.0], [stacks["flats"].count, after])
        count = stacks["projections"].count
        dtype = str(stacks["projections"].dtype)
        self.header = ScanHeader(int(size[0]), int(size[1]), count, None, None, "TIFF", dtype)

    def projections(self, rows: slice, angles: slice = ALL) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._stacks["projections"].read(rows, angles)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        kinds = [k for k in ("flats", "flats_after") if k in self._stacks]
        return np.concatenate([self._stacks[k].read(rows) for k in kinds])

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._stacks["darks"].read(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def _read_angles(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.loadtxt(path, ndmin=1), float).reshape(-1)
    except (OSError, ValueError) as error:
        raise TesseraError(
            f"{path}: cannot be read as angles ({error}); give one number a line"
        ) from None

"""A scan as TIFF files: a folder with ``projections``, ``flats`` and ``darks`` below it.

Each is a folder of one TIFF a frame, in name order. ``theta.txt`` beside them holds one angle in
degrees a line; without it the config gives the range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import tifffile

from tessera.errors import TesseraError
from tessera.formats.scan import ScanHeader

_FOLDERS = {
    "projections": ("projections", "proj", "projs", "tomo"),
    "flats": ("flats", "flat", "white"),
    "darks": ("darks", "dark"),
}


class TiffScan:
    """A folder of TIFF frames."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._frames = {kind: self._files(path, names) for kind, names in _FOLDERS.items()}
        for kind, files in self._frames.items():
            if not files:
                raise TesseraError(
                    f"{path}: holds no {kind}; put their TIFFs in {path}/{_FOLDERS[kind][0]}"
                )
        with tifffile.TiffFile(self._frames["projections"][0]) as first:
            rows, columns = first.pages[0].shape[:2]
        count = len(self._frames["projections"])
        theta = path / "theta.txt"
        self.angles_deg: np.ndarray | None = np.loadtxt(theta, ndmin=1) if theta.exists() else None
        self.flat_times = np.zeros(len(self._frames["flats"]))
        self.header = ScanHeader(rows, columns, count, None, None, "TIFF")

    @staticmethod
    def _files(path: Path, names: tuple[str, ...]) -> list[Path]:
        for name in names:
            found = sorted(p for p in (path / name).glob("*") if p.suffix.lower() in (".tif", ".tiff"))
            if found:
                return found
        return []

    def _read(self, kind: str, rows: slice) -> np.ndarray:
        frames = []
        for file in self._frames[kind]:
            try:
                # A memory map reads the rows' own bytes; compressed files are read whole.
                try:
                    frame = tifffile.memmap(file, mode="r")
                except ValueError:
                    frame = tifffile.imread(file)
            except (OSError, tifffile.TiffFileError) as error:
                raise TesseraError(f"{file}: cannot be read ({error}); copy it again") from None
            if frame.shape != (self.header.rows, self.header.columns):
                raise TesseraError(
                    f"{file}: is {frame.shape} pixels but the first frame is "
                    f"{(self.header.rows, self.header.columns)}; give frames of one size"
                )
            frames.append(np.array(frame[rows]))
        return np.stack(frames)

    def projections(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read("projections", rows)

    def flats(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read("flats", rows)

    def darks(self, rows: slice) -> np.ndarray:
        """See :class:`tessera.formats.scan.Scan`."""
        return self._read("darks", rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

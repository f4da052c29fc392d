"""One raw scan: projections, flats, darks, angles and what the instrument noted.

A scan is read by slabs of detector rows: ``scan.projections(slice(0, 32))`` is an array of
(angles, 32, columns). Angles are degrees; positions and pixels are micrometres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from tessera.errors import TesseraError

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class ScanHeader:
    """What is known of a scan without reading a frame.

    Attributes:
        rows, columns: detector pixels.
        angles: number of projections.
        pixel_um: detector pixel in the specimen; None if the file does not say.
        position_um: stage position (z, y, x); None if the file does not say.
        kind: name of the format.
    """

    rows: int
    columns: int
    angles: int
    pixel_um: float | None
    position_um: Vector | None
    kind: str


class Scan(Protocol):
    """A raw scan that is open."""

    path: str
    header: ScanHeader
    angles_deg: np.ndarray | None
    """(angles,) in degrees; None if the file holds none."""

    def projections(self, rows: slice) -> np.ndarray:
        """Return (angles, rows, columns) in the file's own type."""

    def flats(self, rows: slice) -> np.ndarray:
        """Return (frames, rows, columns)."""

    def darks(self, rows: slice) -> np.ndarray:
        """Return (frames, rows, columns)."""

    flat_times: np.ndarray
    """(frames,) when each flat was taken: 0 before the first projection, 1 after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_scan(path: str | Path) -> Scan:
    """Open a raw scan of any known format.

    Raises:
        TesseraError: the file is missing, torn, of no known format, or lacks flats or darks.
    """
    from tessera.formats import hdf5, tiff

    path = Path(path)
    if not path.exists():
        raise TesseraError(f"{path}: no such scan; give the path of a raw scan")
    if path.is_dir():
        return tiff.TiffScan(path)
    return hdf5.open_hdf5_scan(path)


def scan_header(path: str | Path) -> ScanHeader:
    """Return what is known of a scan without reading a frame; see :func:`open_scan`."""
    with open_scan(path) as scan:
        return scan.header


def check_angles(angles: np.ndarray, projections: int, path: str) -> np.ndarray:
    """Return the angles if they can be those of a scan.

    Raises:
        TesseraError: they differ in number from the projections, are not finite, are radians, are
            not sorted, occur twice, or cover less than 90 degrees.
    """
    angles = np.asarray(angles, float).reshape(-1)
    if len(angles) != projections:
        raise TesseraError(
            f"{path}: {len(angles)} angles but {projections} projections; give one angle for each"
        )
    if not np.isfinite(angles).all():
        raise TesseraError(f"{path}: some angles are not numbers; repair theta")
    steps = np.diff(angles)
    if len(steps) and not (np.all(steps > 0) or np.all(steps < 0)):
        what = "occur twice" if np.any(steps == 0) else "are not sorted"
        raise TesseraError(f"{path}: angles {what}; give each projection its own angle, in order")
    span = abs(angles[-1] - angles[0]) + (abs(steps).mean() if len(steps) else 0)
    if span < 7.0 and len(angles) > 30:
        raise TesseraError(
            f"{path}: angles span {span:.3f}, which looks like radians; give theta in degrees"
        )
    if span < 90.0:
        raise TesseraError(
            f"{path}: angles cover {span:.1f} degrees; a reconstruction needs 90 at least, "
            "better 180"
        )
    if span > 3600.0:
        raise TesseraError(f"{path}: angles cover {span:.0f} degrees; give theta in degrees")
    return angles


def check_pixel(pixel_um: float | None, path: str) -> float | None:
    """Return the pixel if it can be a tomography detector's.

    Raises:
        TesseraError: it is zero, negative, or in another unit.
    """
    if pixel_um is None:
        return None
    if not 1e-3 <= pixel_um <= 1e3:
        raise TesseraError(
            f"{path}: a pixel of {pixel_um:g} um is not one of a tomography detector; give "
            "recon.pixel_um, or repair its unit in the file"
        )
    return float(pixel_um)

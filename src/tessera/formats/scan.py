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
ALL = slice(None)
_LEAST_PIXEL_UM, _MOST_PIXEL_UM = 0.01, 500.0
_SAME_ANGLE = 1e-3  # of the mean step


@dataclass(frozen=True)
class ScanHeader:
    """What is known of a scan without reading a frame.

    Attributes:
        rows, columns: detector pixels.
        angles: number of projections.
        pixel_um: detector pixel in the specimen; None if the file does not say, or says nonsense.
        position_um: stage position (z, y, x); None if the file does not say.
        kind: name of the format.
        dtype: numpy name of a pixel's type.
        rows_together: rows that are stored together; slabs of whole multiples read fastest.
        pixel_said: what the file says of the pixel, where it cannot be right.
    """

    rows: int
    columns: int
    angles: int
    pixel_um: float | None
    position_um: Vector | None
    kind: str
    dtype: str = "uint16"
    rows_together: int = 1
    pixel_said: str | None = None


class Scan(Protocol):
    """A raw scan that is open. Use it as a context manager.

    Attributes:
        path: where it is.
        header: see :class:`ScanHeader`.
        angles_deg: (angles,) in degrees; None if the file holds none.
        flat_times: (flats,) when each was taken: 0 before the first projection, 1 after the last.
    """

    path: str
    header: ScanHeader
    angles_deg: np.ndarray | None
    flat_times: np.ndarray

    def projections(self, rows: slice, angles: slice = ALL) -> np.ndarray:
        """Return (angles, rows, columns) in the file's own type."""

    def flats(self, rows: slice) -> np.ndarray:
        """Return (flats, rows, columns)."""

    def darks(self, rows: slice) -> np.ndarray:
        """Return (darks, rows, columns)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_scan(path: str | Path) -> Scan:
    """Open a raw scan of any known format.

    What a person wrote beside it (:mod:`tessera.formats.beside`) takes the place of what it says.

    Raises:
        TesseraError: the file is missing, torn, of no known format, or lacks flats or darks.
    """
    from tessera.formats import beside, hdf5, tiff

    path = Path(path)
    if not path.exists():
        raise TesseraError(f"{path}: no such scan; give the path of a raw scan")
    scan: Scan
    if path.is_dir():
        scan = tiff.TiffScan(path)
    elif path.suffix.lower() in (".tif", ".tiff"):
        raise TesseraError(
            f"{path}: is one TIFF; give the folder that holds projections, flats and darks"
        )
    else:
        scan = hdf5.open_hdf5_scan(path)
    return beside.apply(scan, path)


def scan_header(path: str | Path) -> ScanHeader:
    """Return what is known of a scan without reading a frame; see :func:`open_scan`."""
    with open_scan(path) as scan:
        return scan.header


def pixel_of(header: ScanHeader, asked_um: float | None, path: str | Path) -> float:
    """Return the pixel in micrometres: as asked, or as the file says.

    Raises:
        TesseraError: neither says it, or the file says what cannot be.
    """
    if asked_um is not None:
        return asked_um
    if header.pixel_said is not None:
        raise TesseraError(
            f"{path}: a pixel of {header.pixel_said} is not one of a tomography detector; repair "
            "its unit in the file, or give recon.pixel_um"
        )
    if header.pixel_um is None:
        raise TesseraError(f"{path}: does not say how large its pixels are; give recon.pixel_um")
    return header.pixel_um


def plausible_pixel(pixel_um: float | None) -> tuple[float | None, str | None]:
    """Return (pixel, None), or (None, what was said) if no tomography has such a pixel."""
    if pixel_um is None or _LEAST_PIXEL_UM <= pixel_um <= _MOST_PIXEL_UM:
        return pixel_um, None
    return None, f"{pixel_um:g} um"


def angles_of(scan: Scan, range_deg: float | None) -> np.ndarray:
    """Return the angles in degrees: the file's, or evenly spaced over a range.

    Args:
        scan: an open scan.
        range_deg: what the projections cover, the last one step before its end (180 or 360).

    Raises:
        TesseraError: there are none, or they cannot be those of a scan.
    """
    count = scan.header.angles
    if scan.angles_deg is not None:
        return check_angles(scan.angles_deg, count, scan.path)
    if range_deg is None:
        raise TesseraError(
            f"{scan.path}: holds no angles; give recon.angles_deg, the range that was scanned"
        )
    return check_angles(np.arange(count) * (range_deg / count), count, scan.path)


def check_angles(angles: np.ndarray, projections: int, path: str | Path) -> np.ndarray:
    """Return the angles (degrees) if they can be those of a scan.

    Raises:
        TesseraError: they differ in number from the projections, are not finite, are radians, are
            not sorted, occur twice, or cover less than 90 degrees.
    """
    angles = np.asarray(angles, float).reshape(-1)
    if len(angles) != projections:
        raise TesseraError(
            f"{path}: {len(angles)} angles but {projections} projections; give one angle for each "
            "(a frame may have been dropped)"
        )
    if not np.isfinite(angles).all():
        raise TesseraError(f"{path}: some angles are not numbers; repair theta")
    if len(angles) < 2:
        raise TesseraError(f"{path}: {len(angles)} projection is no tomography; give a whole scan")
    steps = np.diff(angles)
    step = float(np.abs(steps).mean())
    span = abs(float(angles[-1] - angles[0])) + step
    if np.any(np.abs(steps) <= _SAME_ANGLE * step):
        twice = int(np.argmin(np.abs(steps)))
        raise TesseraError(
            f"{path}: the angle {angles[twice]:g} occurs twice (projections {twice} and "
            f"{twice + 1}); give each projection its own"
        )
    if not (np.all(steps > 0) or np.all(steps < 0)):
        odd = int(np.argmax(np.sign(steps) != np.sign(np.median(steps)))) + 1
        raise TesseraError(
            f"{path}: angles are not sorted (projection {odd} is at {angles[odd]:g} after "
            f"{angles[odd - 1]:g}); put the projections in order"
        )
    if span < 7.0:
        raise TesseraError(
            f"{path}: angles cover {span:.3f} degrees, which looks like radians; give theta in "
            "degrees, or its unit as an attribute"
        )
    if span < 90.0:
        raise TesseraError(
            f"{path}: angles cover {span:.1f} degrees; a reconstruction needs 90 at least, "
            "better 180"
        )
    if span > 3600.0:
        raise TesseraError(
            f"{path}: angles cover {span:.0f} degrees; is theta in degrees while its unit says "
            "radians? repair the unit"
        )
    return angles

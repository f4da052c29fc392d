"""The fused volume's frame, known from the scans' headers before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import ScanHeader, scan_header


@dataclass(frozen=True)
class Frame:
    """Shape (z, y, x) in voxels of the box of all tiles at their nominal positions."""

    shape: tuple[int, int, int]
    voxel_um: float


def nominal_frame(scans: Mapping[str, str], pixel_um: float | None = None) -> Frame:
    """Return the frame of tiles named in ``scans`` (name -> path).

    Args:
        scans: the tiles.
        pixel_um: detector pixel where the files do not say.

    Raises:
        TesseraError: tiles of different shapes or pixels, twice at one place, without positions,
            or none of which overlaps a certain one.
    """
    headers = {name: scan_header(path) for name, path in sorted(scans.items())}
    first_name, first = next(iter(headers.items()))
    pixel = pixel_um or first.pixel_um
    if pixel is None:
        raise TesseraError(
            f"{scans[first_name]}: does not say how large its pixels are; give recon.pixel_um"
        )
    size = np.array([first.rows, first.columns, first.columns])
    if len(headers) == 1:
        return Frame((first.rows, first.columns, first.columns), pixel)
    offsets = {n: _offset(h, first, scans[n], pixel) for n, h in headers.items()}
    for name, header in headers.items():
        if (header.rows, header.columns) != (first.rows, first.columns):
            raise TesseraError(
                f"{scans[name]}: has {header.rows} x {header.columns} pixels but "
                f"{scans[first_name]} has {first.rows} x {first.columns}; give tiles of one shape"
            )
        others = [o for n, o in offsets.items() if n != name]
        away = [np.abs(o - offsets[name]) for o in others]
        if any((a < 0.5).all() for a in away):
            raise TesseraError(
                f"{scans[name]}: lies where another tile lies; give each tile once, and its own "
                "stage position"
            )
        if not any((a < size).all() for a in away):
            raise TesseraError(
                f"{scans[name]}: overlaps no other tile by its stage position; check the position "
                "and its unit"
            )
    places = np.array(list(offsets.values()))
    low = np.floor(places.min(axis=0) + 0.5)
    high = np.floor((places + size).max(axis=0) + 0.5)
    z, y, x = (int(n) for n in high - low)
    return Frame((z, y, x), pixel)


def _offset(header: ScanHeader, first: ScanHeader, path: str, pixel: float) -> np.ndarray:
    if header.position_um is None or first.position_um is None:
        raise TesseraError(
            f"{path}: does not say where the stage was; a mosaic needs the position of each tile"
        )
    return np.subtract(header.position_um, first.position_um) / pixel

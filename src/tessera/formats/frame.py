"""The fused volume's frame, known from the scans' headers before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import ScanHeader, pixel_of, scan_header

_FARTHEST_MM = 1000.0  # a stage does not travel farther
_SAME_PLACE_VOX = 0.5


@dataclass(frozen=True)
class Frame:
    """Shape (z, y, x) in voxels of the box of all tiles at their nominal positions."""

    shape: tuple[int, int, int]
    voxel_um: float


def nominal_frame(
    scans: Mapping[str, str], pixel_um: float | None = None, twice_as_wide: bool = False
) -> Frame:
    """Return the frame of tiles named in ``scans`` (name -> path).

    The first tile's voxels are the lattice; a tile's box is rounded half up onto it.

    Args:
        scans: the tiles.
        pixel_um: detector pixel; None: as the files say.
        twice_as_wide: slices have twice the detector's columns (half acquisition).

    Raises:
        TesseraError: tiles of different shapes or pixels, twice at one place, without positions,
            or some of which overlap no other.
    """
    headers = {name: scan_header(path) for name, path in sorted(scans.items())}
    first_name, first = next(iter(headers.items()))
    pixel = pixel_of(first, pixel_um, scans[first_name])
    width = first.columns * (2 if twice_as_wide else 1)
    if len(headers) == 1:
        return Frame((first.rows, width, width), pixel)
    for name, header in headers.items():
        _check_same_kind(header, scans[name], first, scans[first_name], pixel_um)
    places = np.array([_place(h, scans[n]) for n, h in headers.items()])
    offsets = (places - places[0]) / pixel
    size = np.array([first.rows, width, width])
    _check_overlap(offsets, size, [scans[n] for n in headers])
    low = np.floor(offsets.min(axis=0) + 0.5)
    high = np.floor((offsets + size).max(axis=0) + 0.5)
    z, y, x = (int(n) for n in high - low)
    return Frame((z, y, x), pixel)


def _check_same_kind(
    header: ScanHeader, path: str, first: ScanHeader, first_path: str, pixel_um: float | None
) -> None:
    if (header.rows, header.columns) != (first.rows, first.columns):
        raise TesseraError(
            f"{path}: has {header.rows} x {header.columns} pixels but {first_path} has "
            f"{first.rows} x {first.columns}; give tiles of one shape"
        )
    mine, theirs = pixel_of(header, pixel_um, path), pixel_of(first, pixel_um, first_path)
    if abs(mine - theirs) > 1e-4 * theirs:
        raise TesseraError(
            f"{path}: pixels of {mine:g} um but {first_path} has {theirs:g} um; give tiles of one "
            "magnification"
        )


def _place(header: ScanHeader, path: str) -> np.ndarray:
    if header.position_um is None:
        raise TesseraError(
            f"{path}: does not say where the stage was, which a mosaic needs of each tile; write "
            "position_um into a JSON file beside it"
        )
    place = np.array(header.position_um, float)
    if not np.isfinite(place).all() or np.abs(place).max() > _FARTHEST_MM * 1e3:
        raise TesseraError(
            f"{path}: a stage position of {place.tolist()} um cannot be; repair it or its unit"
        )
    return place


def _check_overlap(offsets: np.ndarray, size: np.ndarray, paths: list[str]) -> None:
    """Each tile has a place of its own, and all hang together.

    Tiles within reach are joined one by one from the first; what is never reached is apart.
    """
    away = np.abs(offsets[:, None] - offsets[None])
    same = (away < _SAME_PLACE_VOX).all(axis=2)
    np.fill_diagonal(same, False)
    if same.any():
        one, other = np.argwhere(same)[0]
        raise TesseraError(
            f"{paths[max(one, other)]}: lies where {paths[min(one, other)]} lies; give each tile "
            "once, and its own stage position"
        )
    near = (away < size).all(axis=2)
    reached = np.zeros(len(paths), bool)
    reached[0] = True
    while True:
        grown = near[reached].any(axis=0)
        if (grown == reached).all():
            break
        reached = grown
    if not reached.all():
        lost = int(np.argmin(reached))
        gap = (away[lost, reached] - size).max(axis=1).min()
        raise TesseraError(
            f"{paths[lost]}: overlaps no other tile by its stage position ({gap:.0f} pixels are "
            "missing); check the position, its unit and the pixel size"
        )

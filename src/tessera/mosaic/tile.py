"""Tiles and the lattice that they lie on.

The *lattice* is that of the first tile (in name order) at its nominal place: the fused volume's
voxels are the anchor's own voxels, so the anchor is copied, not resampled. A tile's *offset* is the
place (z, y, x) of its first voxel on the lattice, in voxels, and is seldom a whole number::

    lattice  0   1   2   3   4   5   6   7   8
    anchor   |---|---|---|---|
    tile               |---|---|---|---|           offset 2.4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.box import Box, Triple
from tessera.volume.record import file_hash, make_key, read_record
from tessera.volume.store import Volume, open_volume

Vector = tuple[float, float, float]


class Voxels(Protocol):
    """What a tile is read from: a volume on disk, or what can be read like one."""

    path: Path
    shape: Triple
    voxel_um: Vector
    origin_um: Vector

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box; beyond the edge it mirrors."""


@dataclass(frozen=True)
class Tile:
    """One reconstructed tile.

    Attributes:
        name: name of its folder.
        folder: the folder that holds ``tile.zarr``.
        volume: its voxels.
        offset: nominal place of its first voxel on the lattice (z, y, x), in voxels.
        radius_vox: radius about the rotation axis inside which it is true; None: everywhere.
        steady: nothing moves along the first axis (it is the angles of projections).
    """

    name: str
    folder: Path
    volume: Voxels
    offset: Vector
    radius_vox: float | None
    steady: bool = False

    @property
    def shape(self) -> Triple:
        """Size (z, y, x) in voxels."""
        return self.volume.shape

    @property
    def centre_vox(self) -> Vector:
        """Middle row on the rotation axis, in the tile's own voxels."""
        z, y, x = ((n - 1) / 2 for n in self.shape)
        return z, y, x

    def digest(self) -> str:
        """Hash of the tile's voxels: from its record, or of its files where there is none."""
        record = read_record(self.folder / "records" / "0000.json")
        if record is not None and record.complete:
            return record.digest()
        files = sorted(p for p in self.volume.path.rglob("*") if p.is_file())
        root = self.volume.path
        return make_key(files={str(p.relative_to(root)): file_hash(p) for p in files})


def open_tiles(folders: Sequence[Path]) -> list[Tile]:
    """Open tiles, in name order; the first anchors the lattice.

    Raises:
        TesseraError: a tile is given twice, has no positive voxel size, or differs from the first
            in shape or voxel size.
    """
    by_name: dict[str, Path] = {}
    for folder in map(Path, folders):
        name = folder.resolve().name
        if name in by_name:
            raise TesseraError(f"{folder}: tile '{name}' is given twice; give each tile once")
        by_name[name] = folder
    if not by_name:
        raise TesseraError("no tiles were given; give the folders that hold a tile.zarr each")
    tiles: list[Tile] = []
    anchor: Volume | None = None
    for name in sorted(by_name):
        volume = open_volume(by_name[name] / "tile.zarr")
        anchor = anchor or volume
        _same_kind(name, volume, sorted(by_name)[0], anchor)
        radius = volume.provenance.get("valid_radius_vox")
        offset = to_vector(
            (np.array(volume.origin_um) - np.array(anchor.origin_um)) / np.array(volume.voxel_um)
        )
        tile = Tile(name, by_name[name], volume, offset, None if radius is None else float(radius))
        for other in tiles:
            if np.abs(np.subtract(other.offset, tile.offset)).max() < 0.5:
                raise TesseraError(
                    f"{by_name[name]}: tile '{name}' lies where tile '{other.name}' lies; give "
                    "each tile once, and its own stage position"
                )
        tiles.append(tile)
    return tiles


def _same_kind(name: str, volume: Volume, first: str, anchor: Volume) -> None:
    if volume.has_channels:
        raise TesseraError(f"{volume.path}: has channels; a tile has none")
    if min(volume.voxel_um) <= 0:
        raise TesseraError(f"{volume.path}: voxel size {volume.voxel_um} um is not positive")
    if volume.shape != anchor.shape:
        raise TesseraError(
            f"{volume.path}: tile '{name}' has {tuple(volume.shape)} voxels but '{first}' has "
            f"{tuple(anchor.shape)}; reconstruct tiles of one shape"
        )
    if not np.allclose(volume.voxel_um, anchor.voxel_um, rtol=1e-4):
        raise TesseraError(
            f"{volume.path}: tile '{name}' has voxels of {volume.voxel_um} um but '{first}' of "
            f"{anchor.voxel_um} um; give all scans the same pixel size"
        )


def frame_box(tiles: Sequence[Tile]) -> Box:
    """Return the fused volume on the lattice: the box of all tiles at their nominal places."""
    starts = np.array([t.offset for t in tiles])
    stops = starts + np.array([t.shape for t in tiles])
    # Rounded half up, not to even, so that equal fractions go the same way on each axis.
    return Box.of(
        tuple(np.floor(starts.min(axis=0) + 0.5)), tuple(np.floor(stops.max(axis=0) + 0.5))
    )


def to_vector(values: Sequence[float] | np.ndarray) -> Vector:
    """Return three floats (z, y, x) as a tuple."""
    z, y, x = (float(v) for v in values)
    return z, y, x

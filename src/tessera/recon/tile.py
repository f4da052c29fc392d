"""A tile's slabs: what is read, computed and written for each run of detector rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tessera import __version__
from tessera.config import Recon
from tessera.formats import Scan
from tessera.formats.scan import pixel_of
from tessera.recon.axis import FoundAxis
from tessera.recon.backends import Backend
from tessera.recon.slab import AT_ONCE, Corrections, Counts, read_counts
from tessera.volume.box import Block, Grid, Triple
from tessera.volume.engine import Task
from tessera.volume.store import Layout, create_volume, open_volume

_CHUNK = 64
_SLAB_BYTES = 200 << 20


def slab_rows(most: int, angles: int, columns: int) -> int:
    """Return the rows of one slab: ``most``, or fewer where frames and slices are large.

    A slab is in memory several times: one is read, one computed, one written.
    """
    each = 4 * columns**2 + 2 * angles * columns
    rows = most
    while rows > AT_ONCE and rows % 2 == 0 and rows * each > _SLAB_BYTES:
        rows //= 2
    return rows


def slice_columns(columns: int, settings: Recon) -> int:
    """Return the columns of a slice: the detector's, or twice as many in half acquisition."""
    return 2 * columns if settings.axis.half_acquisition else columns


class Slabs:
    """One scan's blocks: whole slices, :func:`slab_rows` of them, one shard each.

    Args:
        scan: an open scan.
        axis: its rotation axis.
        settings: corrections, rows of a slab.
        backend: reconstruction of its geometry; the corrections share its threads.
        path: the tile.
    """

    def __init__(
        self,
        scan: Scan,
        axis: FoundAxis,
        settings: Recon,
        backend: Backend,
        path: Path,
    ) -> None:
        self.scan, self.axis, self.settings, self.path = scan, axis, settings, path
        header = scan.header
        self.pixel_um = pixel = pixel_of(header, settings.pixel_um, scan.path)
        width = slice_columns(header.columns, settings)
        self.shape = Triple(header.rows, width, width)
        side = -(-width // _CHUNK) * _CHUNK
        slab = slab_rows(settings.rows, header.angles, width)
        chunk = next(n for n in (32, 16, 8, 4, 2, 1) if slab % n == 0)
        self.layout = Layout(
            self.shape,
            "float32",
            (pixel,) * 3,
            chunk=Triple(chunk, _CHUNK, _CHUNK),
            shard=Triple(slab, side, side),
            origin_um=self._origin(),
        )
        self.grid = Grid.of(self.shape, (slab, width, width))
        self._reconstruct = backend
        self._corrections = Corrections(scan, settings, pixel, backend.threads)

    def _origin(self) -> tuple[float, float, float]:
        """Place of voxel (0, 0, 0), from the nominal stage position."""
        place = self.scan.header.position_um
        half = [(n - 1) / 2 * self.pixel_um for n in self.shape]
        z, y, x = (p - h for p, h in zip(place or half, half, strict=True))
        return z, y, x

    def create(self, key: str) -> None:
        """Make the empty tile."""
        # The circle that every angle sees, about an axis that is not in the middle; in half
        # acquisition one of each pair of angles.
        last = self.scan.header.columns - 1
        most = max if self.settings.axis.half_acquisition else min
        radius = most(self.axis.column, last - self.axis.column)
        create_volume(
            self.path,
            self.layout,
            {
                "version": __version__,
                "key": key,
                "settings": self.settings.model_dump(mode="json"),
                "scan": Path(self.scan.path).name,
                "valid_radius_vox": round(radius, 3),
                "unit": "1/cm",
            },
        )

    def task(self) -> Task:
        """What is done to each slab."""
        volume = open_volume(self.path)
        return Task(
            read=self._read,
            compute=self._compute,
            write=lambda block, slices: volume.write(block.write, slices),
            files=lambda block: volume.shard_files(block.write),
            name="recon, slabs",
        )

    def _rows(self, block: Block) -> slice:
        return slice(block.write.start.z, block.write.stop.z)

    def _read(self, block: Block) -> Counts:
        return read_counts(self.scan, self._rows(block), self.settings, self.pixel_um)

    def _compute(self, block: Block, counts: Counts) -> np.ndarray:
        rows = self._rows(block)
        middle = (self.shape.z - 1) / 2
        axes = self.axis.columns(np.arange(rows.start, rows.stop), middle, self.settings.axis.tilt)
        out = np.empty((len(axes), *self.shape[1:]), np.float32)
        for part in self._corrections.parts(counts):
            integrals = self._corrections.integrals(counts, part)
            out[part] = self._reconstruct(*self._corrections.sinograms(integrals, axes[part]))
        out /= np.float32(self.pixel_um * 1e-4)
        return out

"""A tile's slabs: what is read, computed and written for each run of detector rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tessera import __version__
from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.formats import Scan
from tessera.formats.scan import check_angles
from tessera.recon.axis import FoundAxis, find_axis
from tessera.recon.correct import line_integrals, ring_score
from tessera.volume.box import Block, Grid, Triple
from tessera.volume.engine import Task
from tessera.volume.store import Layout, create_volume, open_volume

_AXIS_ROWS = 54  # detector rows that vote for the axis
_CHUNK = 64


def angles_of(scan: Scan, settings: Recon) -> np.ndarray:
    """Return the angles in degrees, from the file or evenly spaced as the settings say."""
    count = scan.header.angles
    if scan.angles_deg is not None:
        return check_angles(scan.angles_deg, count, scan.path)
    if settings.angles_deg is None:
        raise TesseraError(
            f"{scan.path}: holds no angles; give recon.angles_deg, the range that was scanned"
        )
    return np.arange(count) * (settings.angles_deg / count)


def integrals(scan: Scan, rows: slice, settings: Recon) -> tuple[np.ndarray, np.ndarray]:
    """Return line integrals (angles, rows, columns) before and after stripe removal."""
    return line_integrals(
        scan.projections(rows),
        scan.flats(rows),
        scan.darks(rows),
        scan.flat_times,
        settings,
        scan.path,
    )


def prepare(
    scan: Scan, angles: np.ndarray, settings: Recon
) -> tuple[FoundAxis, dict[str, np.ndarray]]:
    """Find the axis on rows spread over the scan, and keep pictures for the report."""
    count = scan.header.rows
    # Runs of rows, not single ones: chunks of the file hold several.
    runs = [slice(0, count)]
    if count > _AXIS_ROWS:
        starts = np.linspace(0, count - _AXIS_ROWS // 9, 9).round().astype(int)
        runs = [slice(int(s), int(s) + _AXIS_ROWS // 9) for s in starts]
    parts = [integrals(scan, run, settings) for run in runs]
    rows = np.concatenate([np.arange(count)[run] for run in runs])
    raw = np.concatenate([p[0] for p in parts], axis=1)
    clean = np.concatenate([p[1] for p in parts], axis=1)
    if settings.axis.column is None:
        axis = find_axis(clean, angles, settings.axis, rows)
    else:
        column = settings.axis.column
        if not 0 <= column <= scan.header.columns - 1:
            raise TesseraError(
                f"recon.axis.column: {column} lies outside the picture of "
                f"{scan.header.columns} columns; give a column within it"
            )
        axis = FoundAxis(column, 0.0, 1.0, [], [], "given")
    middle = len(rows) // 2
    row = int(rows[middle])
    qc = {
        "flat": scan.flats(slice(0, count))[0].astype(np.float32),
        "dark": scan.darks(slice(0, count))[0].astype(np.float32),
        "sinogram_raw": raw[:, middle],
        "sinogram_clean": clean[:, middle],
        "first_and_mirrored_last": np.stack([clean[0, middle], clean[-1, middle, ::-1]]),
        "row": np.array(row),
        "ring_score": np.array([ring_score(raw), ring_score(clean)]),
    }
    made = backend(settings, angles, scan.header.columns, 1)(
        clean[:, middle : middle + 1], np.array([axis.column])
    )
    pixel = settings.pixel_um or scan.header.pixel_um
    qc["slice"] = made[0] / (pixel * 1e-4 if pixel else 1.0)
    qc["profile"] = qc["slice"][len(made[0]) // 2]
    return axis, qc


def backend(settings: Recon, angles: np.ndarray, columns: int, threads: int) -> Any:
    """Return the reconstruction that the settings name: (sinograms, axes) -> slices."""
    if settings.backend == "tomopy":
        from tessera.recon.gridrec import GridrecBackend

        return GridrecBackend(angles, columns, settings.filter, settings.roi_extend, threads)
    from tessera.recon.nufft import NufftBackend

    return NufftBackend(angles, columns, settings.filter, settings.roi_extend, threads)


class Slabs:
    """One scan's blocks: whole slices, ``settings.rows`` of them, one shard each."""

    def __init__(
        self,
        scan: Scan,
        angles: np.ndarray,
        axis: FoundAxis,
        settings: Recon,
        path: Path,
        threads: int,
    ) -> None:
        self.scan, self.axis, self.settings, self.path = scan, axis, settings, path
        header = scan.header
        pixel = settings.pixel_um or header.pixel_um
        if pixel is None:
            raise TesseraError(
                f"{scan.path}: does not say how large its pixels are; give recon.pixel_um"
            )
        self.pixel_um = pixel
        self.shape = Triple(header.rows, header.columns, header.columns)
        side = -(-header.columns // _CHUNK) * _CHUNK
        chunk = next(n for n in (32, 16, 8, 4, 2, 1) if settings.rows % n == 0)
        self.layout = Layout(
            self.shape,
            "float32",
            (pixel,) * 3,
            chunk=Triple(chunk, _CHUNK, _CHUNK),
            shard=Triple(settings.rows, side, side),
            origin_um=self._origin(),
        )
        self.grid = Grid.of(self.shape, (settings.rows, header.columns, header.columns))
        self._angles, self._threads = angles, threads
        self._reconstruct: Any = None

    def _origin(self) -> tuple[float, float, float]:
        """Place of voxel (0, 0, 0), from the nominal stage position."""
        place = self.scan.header.position_um
        half = [(n - 1) / 2 * self.pixel_um for n in self.shape]
        z, y, x = (p - h for p, h in zip(place or half, half, strict=True))
        return z, y, x

    def create(self, key: str) -> None:
        """Make the empty tile."""
        # The circle that every angle sees, about an axis that is not in the middle.
        header = self.scan.header
        radius = min(self.axis.column, header.columns - 1 - self.axis.column)
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

    def _read(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = self._rows(block)
        return self.scan.projections(rows), self.scan.flats(rows), self.scan.darks(rows)

    def _compute(
        self, block: Block, frames: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> np.ndarray:
        if self._reconstruct is None:
            self._reconstruct = backend(
                self.settings, self._angles, self.scan.header.columns, self._threads
            )
        counts, flats, darks = frames
        _, clean = line_integrals(
            counts, flats, darks, self.scan.flat_times, self.settings, self.scan.path
        )
        rows = self._rows(block)
        middle = (self.shape.z - 1) / 2
        axes = self.axis.columns(np.arange(rows.start, rows.stop), middle, self.settings.axis.tilt)
        slices: np.ndarray = self._reconstruct(clean, axes)
        return slices / np.float32(self.pixel_um * 1e-4)

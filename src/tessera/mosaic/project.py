"""Tiles of one rotation axis, stitched before reconstruction: many scans become one.

The detector (or the axis under it) was moved between scans, and all scans saw the same angles. Then
projection n of each scan shows a part of one wide projection n, and the same shift holds at every
angle. A scan is looked at as a volume of axes (angle, row, column) of line integrals, so that
registration, solution and blending are those of volumes; nothing moves along the angles.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tessera.compute.progress import Progress
from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.formats import Scan, open_scan
from tessera.mosaic.fuse import blend_parts, read_parts
from tessera.mosaic.register import Place, solve_tiles
from tessera.mosaic.tile import Tile, to_vector
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import mirror, write_errors

_LEAST = 1e-4  # transmission below which a pixel is taken as opaque
_SLAB = (32, 64)  # angles and rows that are stitched at once
_SAME_DEG = 0.01  # angles of scans may differ by this much


class Stack:
    """Line integrals of a scan as a volume (angle, row, column); a unit of length is a pixel."""

    has_channels = False

    def __init__(self, scan: Scan) -> None:
        header = scan.header
        if header.pixel_um is None or header.position_um is None:
            raise TesseraError(
                f"{scan.path}: does not say its pixel size and stage position; a mosaic needs both"
            )
        self.path = Path(scan.path)
        self.shape = Triple(header.angles, header.rows, header.columns)
        self.voxel_um = (1.0, header.pixel_um, header.pixel_um)
        middle = ((header.rows - 1) / 2, (header.columns - 1) / 2)
        up, _, across = header.position_um
        self.origin_um = (
            0.0,
            up - middle[0] * header.pixel_um,
            across - middle[1] * header.pixel_um,
        )
        self._scan = scan

    def read(self, box: Box) -> np.ndarray:
        """Return -log of the transmission in a box; beyond the edges it mirrors."""
        wanted = [
            mirror(np.arange(a, b), n)
            for a, b, n in zip(box.start, box.stop, self.shape, strict=True)
        ]
        angles, rows, _ = (slice(int(i.min()), int(i.max()) + 1) for i in wanted)
        integrals = self._integrals(angles, rows)
        firsts = (angles.start, rows.start, 0)
        return np.asarray(integrals[np.ix_(*(i - f for i, f in zip(wanted, firsts, strict=True)))])

    def _integrals(self, angles: slice, rows: slice) -> np.ndarray:
        dark = self._scan.darks(rows).mean(axis=0, dtype=np.float64)
        flats, times = self._scan.flats(rows).astype(np.float64), self._scan.flat_times
        ends = [flats[times == t].mean(axis=0) for t in np.unique(times)[[0, -1]]]
        when = np.arange(angles.start, angles.stop) / max(self.shape.z - 1, 1)
        beam = ends[0] + when[:, None, None] * (ends[1] - ends[0]) - dark
        seen = self._scan.projections(rows, angles) - dark
        share = np.divide(seen, beam, out=np.ones_like(beam), where=beam > 0)
        return np.asarray(-np.log(np.clip(share, _LEAST, None)), np.float32)


def stitch(paths: Sequence[Path], out: Path, settings: Mosaic) -> dict[str, Any]:
    """Stitch scans into one Data Exchange file; returns the content of ``positions.json``.

    The file is only written if the gate is passed. Memory is that of a slab of angles and rows.

    Raises:
        TesseraError: scans of different shapes, angles or pixels, or without overlap.
    """
    with ExitStack() as stack:
        scans = [stack.enter_context(open_scan(p)) for p in sorted(paths)]
        tiles = _tiles(scans)
        content = solve_tiles(tiles, settings)
        if content["gate"]["passed"]:
            _write(out, scans, tiles, content)
    return content


def _tiles(scans: list[Scan]) -> list[Tile]:
    tiles: list[Tile] = []
    for scan in scans:
        stack, first = Stack(scan), scans[0]
        path = stack.path
        if any(t.name == path.stem for t in tiles):
            raise TesseraError(f"{path}: tile '{path.stem}' is given twice; give each tile once")
        if stack.shape != Stack(first).shape:
            raise TesseraError(
                f"{path}: has {tuple(stack.shape)} angles, rows and columns, but {first.path} has "
                f"{tuple(Stack(first).shape)}; stitch scans of one shape"
            )
        if scan.angles_deg is not None and first.angles_deg is not None:
            if np.abs(scan.angles_deg - first.angles_deg).max() > _SAME_DEG:
                raise TesseraError(
                    f"{path}: was taken at other angles than {first.path}; reconstruct its tile "
                    "alone (mosaic.kind: volumes)"
                )
        anchor = Stack(first)
        offset = np.subtract(stack.origin_um, anchor.origin_um) / np.array(anchor.voxel_um)
        tiles.append(Tile(path.stem, path, stack, to_vector(offset), None, steady=True))
    return tiles


def _write(out: Path, scans: list[Scan], tiles: list[Tile], content: dict[str, Any]) -> None:
    shape = Triple(*content["frame"]["shape"])
    places = [
        Place(
            t["name"],
            Path(t["folder"]),
            to_vector([0, *t["offset_vox"][1:]]),
            t["gain"],
            t["offset"],
        )
        for t in content["tiles"]
    ]
    pixel = content["voxel_um"][1]
    middle = np.array(content["frame"]["origin_um"])[1:] + (np.array(shape[1:]) - 1) / 2 * pixel
    grid = Grid.of(shape, (_SLAB[0], _SLAB[1], shape.x))
    bar = Progress("stitch, slabs", len(grid))
    partial = out.with_name(f".{out.name}")
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(partial, "w") as file:
            chunks = tuple(min(a, b) for a, b in zip((16, 16, shape.x), shape, strict=True))
            data = file.create_dataset("exchange/data", shape, "f4", chunks=chunks)
            for block in grid:
                mean, _ = blend_parts(read_parts(tiles, places, block.write), block.write)
                data[block.write.slices] = np.exp(-mean)
                bar.step()
            # The beam is divided out already.
            file["exchange/data_white"] = np.ones((1, *shape[1:]), np.float32)
            file["exchange/data_dark"] = np.zeros((1, *shape[1:]), np.float32)
            if scans[0].angles_deg is not None:
                file["exchange/theta"] = scans[0].angles_deg
                file["exchange/theta"].attrs["units"] = "degrees"
            along = (scans[0].header.position_um or (0.0, 0.0, 0.0))[1]
            setup = "measurement/instrument/sample_motor_stack/setup"
            lengths = {f"{setup}/y": middle[0], f"{setup}/z": along, f"{setup}/x": middle[1]}
            lengths["measurement/instrument/detector/pixel_size"] = pixel
            for name, value in lengths.items():
                file[name] = float(value)
                file[name].attrs["units"] = "um"
        os.replace(partial, out)
    bar.finish()

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
import xxhash

from tessera.compute import ranks
from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.formats import Scan, open_scan
from tessera.mosaic.fuse import blend_parts, read_parts
from tessera.mosaic.register import Place, solve_tiles
from tessera.mosaic.tile import Tile, to_vector
from tessera.volume.box import Block, Box, Grid, Triple
from tessera.volume.engine import Task, run_batch
from tessera.volume.mirror import mirror
from tessera.volume.record import make_key
from tessera.volume.store import write_errors

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


def stitch(
    paths: Sequence[Path], out: Path, settings: Mosaic, comm: Any | None = None
) -> dict[str, Any]:
    """Stitch scans into one Data Exchange file; returns the content of ``positions.json``.

    The file is only written if the gate is passed, slab by slab of angles and rows, which is what
    is in memory. It has its name when it is whole: a run that was killed goes on where it was.

    Args:
        paths: raw scans, all at the same angles.
        out: file to write; its record lies in ``<stem>.records`` beside it.
        settings: how positions are found.
        comm: mpi4py communicator whose ranks share the slabs, or None.

    Raises:
        TesseraError: scans of different shapes, angles or pixels, or without overlap.
    """
    with ExitStack() as stack:
        scans = [stack.enter_context(open_scan(p)) for p in sorted(paths)]
        tiles = _tiles(scans)
        content: dict[str, Any] = ranks.root_only(comm, solve_tiles, tiles, settings)
        if content["gate"]["passed"]:
            _write(out, scans, tiles, content, comm)
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


def _write(
    out: Path, scans: list[Scan], tiles: list[Tile], content: dict[str, Any], comm: Any | None
) -> None:
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
    partial = out.with_name(f".{out.name}")
    record = out.with_name(f"{out.stem}.records") / "0000.json"
    key = make_key(tiles=content["tiles"], frame=content["frame"], scans=[_ends(s) for s in scans])
    ranks.root_only(comm, _begin, partial, record, scans, content, key)
    with h5py.File(partial) as file:
        offset = file["exchange/data"].id.get_offset()
    # The places of all values are fixed: slabs are written past HDF5, so that a file whose writer
    # was killed is as good as it was, and ranks need no lock.
    data = np.memmap(partial, np.dtype("<f4"), "r+", offset, tuple(shape))

    def write(block: Block, values: np.ndarray) -> None:
        data[block.write.slices] = values
        data.flush()

    grid = Grid.of(shape, (_SLAB[0], _SLAB[1], shape.x))
    task = Task(
        read=lambda block: read_parts(tiles, places, block.write),
        compute=lambda block, parts: np.exp(-blend_parts(parts, block.write)[0]),
        write=write,
        files=lambda block: (),
        name="stitch, slabs",
    )
    with write_errors(out):
        run_batch(task, list(grid), record, key, comm)
        ranks.root_only(comm, os.replace, partial, out)


def _ends(scan: Scan) -> list[Any]:
    """What tells a scan from another without reading all of it: its middle row."""
    row = scan.header.rows // 2
    middle = scan.projections(slice(row, row + 1))
    return [Path(scan.path).name, list(middle.shape), xxhash.xxh3_128_hexdigest(middle.tobytes())]


def _begin(
    partial: Path, record: Path, scans: list[Scan], content: dict[str, Any], key: str
) -> None:
    """Make the file with all but its values, unless it is there under the same key."""
    if partial.exists():
        with h5py.File(partial) as file:
            if file.attrs.get("tessera_key") == key:
                return
    shape = tuple(content["frame"]["shape"])
    pixel = content["voxel_um"][1]
    middle = np.array(content["frame"]["origin_um"])[1:] + (np.array(shape[1:]) - 1) / 2 * pixel
    with write_errors(partial):
        record.unlink(missing_ok=True)
        record.parent.mkdir(parents=True, exist_ok=True)
        making = partial.with_name(f"{partial.name}.new")
        with h5py.File(making, "w") as file:
            kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            kept.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            file.create_dataset("exchange/data", shape, "<f4", dcpl=kept)
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
            file.attrs["tessera_key"] = key
        os.replace(making, partial)

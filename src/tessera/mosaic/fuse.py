"""Fusion, block by block: each block reads the parts of tiles that it shows, and no more.

A block's voxel is the weighted mean of what each tile shows there: shifted by its solved place
(``resample``), matched in brightness, weighted by how far inside the tile it lies (``blend``).
A block is one shard; its memory does not depend on the volume, the tiles or their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.mosaic.blend import tile_weights
from tessera.mosaic.plan import Plan, read_plan
from tessera.mosaic.register import Place
from tessera.mosaic.resample import TAPS, shift_valid
from tessera.mosaic.tile import Tile, open_tiles
from tessera.volume.box import Block, Box
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record
from tessera.volume.store import open_volume


@dataclass(frozen=True)
class Part:
    """What one tile gives to one block.

    Attributes:
        tile, place: the tile and its solved place.
        box: the block's voxels that the tile reaches.
        data: the tile's voxels for them, with the margin of the shift.
    """

    tile: Tile
    place: Place
    box: Box
    data: np.ndarray


def read_parts(tiles: Sequence[Tile], places: Sequence[Place], box: Box) -> list[Part]:
    """Read what the tiles show of a box of the fused volume."""
    parts = []
    for tile, place in zip(tiles, places, strict=True):
        low = np.ceil(np.array(place.offset))
        high = np.floor(np.array(place.offset) + np.array(tile.shape) - 1) + 1
        reached = box.intersect(Box.of(tuple(low), tuple(high)))
        if reached.empty:
            continue
        # Point v of the volume lies at v - offset in the tile: voxel v + whole, and a fraction.
        whole = np.floor(-np.array(place.offset))
        needed = Box.of(
            tuple(np.array(reached.start) + whole - (TAPS - 1)),
            tuple(np.array(reached.stop) + whole + TAPS),
        )
        parts.append(Part(tile, place, reached, tile.volume.read(needed)))
    return parts


def blend_parts(parts: Sequence[Part], box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted sum of parts over the sum of weights, and that sum.

    Returns:
        float32 (z, y, x) each; both 0 where there is no tile.
    """
    total = np.zeros(box.shape, np.float64)
    weight = np.zeros(box.shape, np.float64)
    for part in parts:
        where = part.box.inside(box)
        offset = np.array(part.place.offset)
        fraction = -offset - np.floor(-offset)
        shown = shift_valid(
            part.data.astype(np.float32),
            (float(fraction[0]), float(fraction[1]), float(fraction[2])),
        )
        z, y, x = (
            np.arange(a, b) - o
            for a, b, o in zip(part.box.start, part.box.stop, offset, strict=True)
        )
        own = tile_weights((z, y, x), part.tile.shape, part.tile.radius_vox).astype(np.float64)
        total[where] += own * (part.place.gain * shown.astype(np.float64) + part.place.offset_value)
        weight[where] += own
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return mean.astype(np.float32), weight.astype(np.float32)


def to_dtype(data: np.ndarray, dtype: str, window: tuple[float, float] | None) -> np.ndarray:
    """Return float voxels in the volume's type; ``window`` becomes 1 to an integer type's largest.

    0 is left for voxels that no tile shows.
    """
    if window is None:
        return data.astype(dtype)
    low, high = window
    top = np.iinfo(dtype).max
    scaled = 1 + (data.astype(np.float64) - low) * ((top - 1) / (high - low))
    return np.rint(np.clip(scaled, 1, top)).astype(dtype)


def fuse_task(folder: Path, plan: Plan) -> Task:
    """Return the work on one block of the volume in ``folder``."""
    tiles = open_tiles([p.folder for p in plan.places])
    volume = open_volume(folder / "volume.zarr")
    _same(volume.provenance.get("key"), plan.key, folder)

    def read(block: Block) -> list[Part]:
        return read_parts(tiles, plan.places, block.read)

    def compute(block: Block, parts: list[Part]) -> np.ndarray:
        mean, weight = blend_parts(parts, block.write)
        shown = to_dtype(mean, plan.layout.dtype, plan.window)
        shown[weight == 0] = 0  # empty is 0, whatever the window
        return shown

    def write(block: Block, data: np.ndarray) -> None:
        volume.write(block.write, data)

    def files(block: Block) -> list[Path]:
        return volume.shard_files(block.write)

    return Task(read, compute, write, files, "mosaic, blocks")


def _same(found: object, key: str, folder: Path) -> None:
    if found != key:
        raise TesseraError(
            f"{folder / 'volume.zarr'}: was made by another plan than store.json; run "
            "'tessera mosaic store' again"
        )


def fuse(folder: Path, batch: int, of: int, comm: Any | None = None) -> Record:
    """Fuse one batch of blocks of the mosaic in ``folder``.

    Raises:
        TesseraError: if there is no such batch, or the store does not fit.
    """
    plan = read_checked(folder, batch, of)
    grid = plan.grid
    blocks = [grid[number] for number in grid.batch(batch, of)]
    record = folder / "records" / f"{batch:04d}.json"
    return run_batch(fuse_task(folder, plan), blocks, record, plan.key, comm)


def read_checked(folder: Path, batch: int, of: int) -> Plan:
    """Read the plan and check that it knows this batch."""
    plan = read_plan(folder)
    if of != plan.batches or not 0 <= batch < of:
        raise TesseraError(
            f"{folder / 'store.json'}: is made for {plan.batches} batches, there is no batch "
            f"{batch} of {of}; run 'tessera mosaic store --batches {of}' first"
        )
    return plan

"""The second pass: which fragments are one object, and which id it gets.

1. Number all fragments of all blocks one after the other.
2. Fragments of neighbours that touch are one: a list of pairs.
3. One union-find over all pairs (connected components of the graph of fragments).
4. Sums over an object's fragments: its size, centre and box. Objects that are too small drop out.
5. Ids 1, 2, ... in the order of the objects' first voxels (z, y, x): they depend on the voxels
   alone, on no block, batch or order.

Memory is bounded by the number of fragments and of pairs, never by the voxels: of the faces, only
those of a few rows of blocks are held at a time.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from tessera.compute.progress import Progress
from tessera.errors import TesseraError
from tessera.label import fragments
from tessera.label.fragments import FIRST, START, STOP, SUM, VOXELS, Fragments
from tessera.label.plan import LARGEST_ID, Plan
from tessera.label.touch import directions, touching
from tessera.volume.box import Block, Grid
from tessera.volume.record import Record, file_hash, read_done
from tessera.volume.store import write_errors

Load = Callable[[int], Fragments]  # block number -> its fragments


def merge(plan: Plan) -> int:
    """Merge all blocks of a class; returns the number of objects.

    Writes ``tables.npy`` (uint32, a relabel table a block, one after the other) and then
    ``merge.npz``: where each block's table begins, and what is known of each object.

    Raises:
        TesseraError: if the first pass is not done, or there are more objects than ids.
    """
    # A block meets its neighbours of this row and the last, and of three rows one plane up.
    load = lru_cache(5 * (plan.grid.counts.x + 2))(Local(plan).load)
    bar = Progress("label merge, blocks", len(plan.grid))
    begins, objects, pairs = collect(plan.grid, load, plan.connectivity, bar)
    root, count = unite(begins[-1], pairs)
    table, found = number(objects, root, count, plan.min_voxels)
    bar.finish()
    if len(found) > LARGEST_ID:
        raise TesseraError(f"{plan.folder}: more than {LARGEST_ID} objects; raise label.min_voxels")
    write_tables(plan, begins, table, found)
    return len(found)


class Local:
    """What the first pass found, from the records of its batches, a few of them at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ends = [plan.grid.batch(n, plan.batches).stop for n in range(plan.batches)]
        # Blocks are asked for in order, and with them those of the plane before.
        self._read = lru_cache(4)(self._record)

    def _record(self, batch: int) -> Record:
        return read_done(self._plan.record(batch, self._plan.local))

    def load(self, number: int) -> Fragments:
        """Return the fragments of a block.

        Raises:
            TesseraError: its batch is not done, or the record is not as it was written.
        """
        batch = bisect_right(self._ends, number)
        block = self._plan.grid[number]
        entry = self._read(batch).entries.get(block.name)
        try:
            return fragments.from_entry({} if entry is None else entry.result, block.write.shape)
        except ValueError as error:
            raise TesseraError(
                f"{self._plan.record(batch, self._plan.local)}: block {block.name} holds {error}; "
                "remove this file and run the workflow again"
            ) from None


def collect(
    grid: Grid, load: Load, connectivity: int, bar: Progress | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read all blocks once in order.

    Returns:
        ``begins``, int64 (blocks + 1): number of fragments in the blocks before each;
        ``objects``, int64 (fragments, 11), see :class:`Fragments`;
        ``pairs``, int64 (pairs, 2): fragments (numbered through all blocks from 0) that are one.
    """
    begins = np.zeros(len(grid) + 1, np.int64)
    objects: list[np.ndarray] = []
    pairs: list[np.ndarray] = []
    for block in grid:
        at = grid.number(block.index)
        here = load(at)
        begins[at + 1] = begins[at] + len(here.objects)
        objects.append(here.objects)
        for direction in directions(connectivity):
            before = _number_before(grid, block, direction)
            if before is not None and len(here.objects):
                same = touching(load(before).faces, here.faces, direction, connectivity)
                pairs.append(same + [begins[before] - 1, begins[at] - 1])
        if bar is not None:
            bar.step()
    return begins, np.concatenate(objects), np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def _number_before(grid: Grid, block: Block, direction: tuple[int, int, int]) -> int | None:
    """The block from which ``block`` lies in a direction; None if there is none."""
    z, y, x = (i - d for i, d in zip(block.index, direction, strict=True))
    inside = all(0 <= i < n for i, n in zip((z, y, x), grid.counts, strict=True))
    return grid.number((z, y, x)) if inside else None


def unite(size: int, pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Union-find: which of ``size`` fragments hang together by ``pairs``.

    All pairs at once hook the larger root onto the smaller, then all paths are halved, until every
    pair is of one root (Shiloach 1982, doi:10.1016/0196-6774(82)90008-6): some ten rounds.

    Returns:
        int64 (size): object of each fragment, from 0, in the order of first fragments; and the
        number of objects.
    """
    root = np.arange(size, dtype=np.int64)
    while len(pairs):
        ends = np.sort(root[pairs], axis=1)
        pairs = ends[ends[:, 0] != ends[:, 1]]
        np.minimum.at(root, pairs[:, 1], pairs[:, 0])
        while not np.array_equal(above := root[root], root):
            root = above
    objects, numbered = np.unique(root, return_inverse=True)
    return numbered.astype(np.int64), len(objects)


def number(
    objects: np.ndarray, root: np.ndarray, count: int, min_voxels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum fragments into objects, leave out the small ones, and number the rest.

    Args:
        objects: int64 (fragments, 11).
        root: object of each fragment, 0 .. ``count`` - 1.
        min_voxels: objects with fewer voxels get id 0.

    Returns:
        uint32 (fragments): global id of each fragment; int64 (objects, 11) in the order of ids.
    """
    total = np.zeros((count, objects.shape[1]), np.int64)
    for column in (VOXELS, *range(*SUM.indices(objects.shape[1]))):
        np.add.at(total[:, column], root, objects[:, column])
    for column in (FIRST, *range(*START.indices(objects.shape[1]))):
        total[:, column] = np.iinfo(np.int64).max
        np.minimum.at(total[:, column], root, objects[:, column])
    for column in range(*STOP.indices(objects.shape[1])):
        np.maximum.at(total[:, column], root, objects[:, column])
    kept = np.flatnonzero(total[:, VOXELS] >= max(min_voxels, 1))
    kept = kept[np.argsort(total[kept, FIRST])]
    ids = np.zeros(count, np.uint32)
    ids[kept] = np.arange(1, len(kept) + 1, dtype=np.uint32)
    return ids[root], total[kept]


def write_tables(plan: Plan, begins: np.ndarray, table: np.ndarray, found: np.ndarray) -> None:
    """The second pass's result: relabel tables of all blocks, and sums of each object."""
    with write_errors(plan.folder):
        partial = plan.folder / ".tables.npy"
        np.save(partial, table)
        os.replace(partial, _tables_file(plan))
        partial = plan.folder / ".merge.npz"
        np.savez(
            partial,
            begins=begins,
            voxels=found[:, VOXELS],
            sum_zyx=found[:, SUM],
            box_start=found[:, START],
            box_stop=found[:, STOP],
        )
        os.replace(partial, merge_file(plan))


def merge_file(plan: Plan) -> Path:
    """The file that says that the merge is done."""
    return plan.folder / "merge.npz"


def _tables_file(plan: Plan) -> Path:
    return plan.folder / "tables.npy"


class Tables:
    """Relabel tables of all blocks, mapped from the disk: a job touches those of its blocks."""

    def __init__(self, plan: Plan) -> None:
        try:
            with np.load(merge_file(plan)) as file:
                self._begins = file["begins"]
            self._table = np.load(_tables_file(plan), mmap_mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise TesseraError(
                f"{merge_file(plan)}: cannot be read ({type(error).__name__}); run 'tessera label "
                "merge'"
            ) from None
        self._grid = plan.grid
        self.digest = file_hash(_tables_file(plan))

    def of(self, block: Block) -> np.ndarray:
        """Return uint32 (fragments + 1): the global id of each of a block's ids, 0 for 0."""
        at = self._grid.number(block.index)
        part = self._table[self._begins[at] : self._begins[at + 1]]
        return np.concatenate([np.zeros(1, np.uint32), part])

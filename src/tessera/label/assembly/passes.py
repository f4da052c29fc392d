"""From overlapping subvolumes to one volume of global ids, in three passes.

1. ``match`` (a batch of blocks): what each object holds of the block's own voxels, and which
   objects of the three upper neighbours it is the same as (:mod:`.matching`).
2. ``merge`` (one job): one union-find over all matches; ids in the order of first voxels.
3. ``relabel`` (a batch of blocks): each block's own voxels, with global ids, into ``labels.zarr``.

The last pass, sizes and centres, is that of the connected components: ``tessera label finish``.
No pass holds more than two subvolumes' labels, and the merge holds objects, never voxels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.label import fragments
from tessera.label.assembly.matching import match, shared_slab
from tessera.label.assembly.plan import Plan
from tessera.label.merge import Tables, number, unite, write_tables
from tessera.label.plan import LARGEST_ID, labels_of
from tessera.volume.box import Block, Box
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, make_key, read_done
from tessera.volume.subvolume import load_arrays, save_arrays

Loaded = tuple[np.ndarray, Box]


def run_match(plan: Plan, batch: int, of: int, comm: Any | None = None) -> Record:
    """First pass over the blocks of a batch.

    Raises:
        TesseraError: as :func:`tessera.volume.engine.run_batch` does.
    """
    grid, shape = plan.store.grid, plan.store.shape

    def compute(block: Block, loaded: Loaded) -> tuple[np.ndarray, np.ndarray]:
        labels, box = loaded
        ids = labels[block.write.inside(box)]
        count = int(labels.max(initial=0))
        objects = fragments.measure(ids, count, block, plan.base.grid.shape)
        rows = []
        for axis in range(3):
            upper = [i + (a == axis) for a, i in enumerate(block.index)]
            if upper[axis] == grid.counts[axis]:
                continue
            there, there_box = plan.labels_of(grid.at((upper[0], upper[1], upper[2])))
            slab = shared_slab(block, axis, plan.store.overlap_vox, shape)
            pairs = match(
                np.ascontiguousarray(labels[slab.inside(box)]),
                np.ascontiguousarray(there[slab.inside(there_box)]),
                plan.agreement,
            )
            rows.append(np.column_stack([np.full(len(pairs), axis), pairs]))
        return objects, np.concatenate([np.zeros((0, 4), np.int64), *rows])

    def write(block: Block, result: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
        save_arrays(plan.match_file(block), objects=result[0], pairs=result[1])
        return {"fragments": len(result[0]), "matches": len(result[1])}

    def files(block: Block) -> list[Path]:
        return [plan.match_file(block)]

    task = Task(plan.labels_of, compute, write, files, "assemble match, subvolumes")
    record = plan.base.record(batch, plan.matches)
    return run_batch(task, plan.blocks(batch, of), record, plan.base.key, comm)


def merge(plan: Plan) -> int:
    """Second pass; returns the number of objects.

    Raises:
        TesseraError: if the first pass is not done, or there are more objects than ids.
    """
    for batch in range(plan.base.batches):
        read_done(plan.base.record(batch, plan.matches))
    grid = plan.base.grid
    begins = np.zeros(len(grid) + 1, np.int64)
    objects: list[np.ndarray] = [np.zeros((0, fragments.COLUMNS), np.int64)]
    matches: list[tuple[int, Block, np.ndarray]] = []
    for at, block in enumerate(grid):
        found, pairs = load_arrays(plan.match_file(block), "objects", "pairs")
        begins[at + 1] = begins[at] + len(found)
        objects.append(found)
        matches.append((at, block, pairs))
    rows = [np.zeros((0, 2), np.int64)]
    for at, block, pairs in matches:
        for axis in range(3):
            some = pairs[pairs[:, 0] == axis]
            if len(some):
                z, y, x = (i + (a == axis) for a, i in enumerate(block.index))
                upper = grid.number((z, y, x))
                rows.append(some[:, 1:3] + [begins[at] - 1, begins[upper] - 1])
    root, count = unite(int(begins[-1]), np.concatenate(rows))
    table, kept = number(np.concatenate(objects), root, count, plan.base.min_voxels)
    if len(kept) > LARGEST_ID:
        raise TesseraError(
            f"{plan.base.folder}: more than {LARGEST_ID} objects; raise label.min_voxels"
        )
    write_tables(plan.base, begins, table, kept)
    return len(kept)


def run_relabel(plan: Plan, batch: int, of: int, comm: Any | None = None) -> Record:
    """Third pass over the blocks of a batch.

    Raises:
        TesseraError: if the merge is not done; as :func:`tessera.volume.engine.run_batch` does.
    """
    blocks = plan.blocks(batch, of)
    tables, volume = Tables(plan.base), labels_of(plan.base)

    def compute(block: Block, loaded: Loaded) -> np.ndarray:
        labels, box = loaded
        return np.take(tables.of(block), labels[block.write.inside(box)])

    def write(block: Block, ids: np.ndarray) -> None:
        volume.write(block.write, ids)

    def files(block: Block) -> list[Path]:
        return volume.shard_files(block.write)

    task = Task(plan.labels_of, compute, write, files, "assemble relabel, subvolumes")
    key = make_key(plan=plan.base.key, merge=tables.digest)
    return run_batch(task, blocks, plan.base.record(batch), key, comm)

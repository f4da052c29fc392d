"""The passes over blocks: fragments in each block (first), global ids into the volume (third).

The third pass labels each block again instead of reading what the first one found: labelling is
faster than writing and reading four bytes a voxel, and nothing intermediate lies on the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.label import fragments
from tessera.label.merge import Tables
from tessera.label.plan import Mask, Plan, labels_of, local_key
from tessera.volume.box import Block
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, make_key

Found = tuple[np.ndarray, int]  # ids of a block's fragments, and their number


def run_local(plan: Plan, batch: int, of: int, comm: Any | None = None) -> Record:
    """First pass: the fragments of each block of a batch, for the merge.

    Raises:
        TesseraError: as :func:`tessera.volume.engine.run_batch` does.
    """
    mask = Mask(plan)
    shape = plan.grid.shape

    def read(block: Block) -> np.ndarray:
        return mask.read(block.write)

    def compute(block: Block, inside: np.ndarray) -> Found:
        return fragments.label_box(inside, plan.connectivity)

    def write(block: Block, found: Found) -> dict[str, Any]:
        # Here and not in `compute`: beside the labelling of the next block.
        return fragments.to_entry(fragments.describe(*found, block, shape))

    task = Task(read, compute, write, lambda block: [], "label local, blocks")
    record = plan.record(batch, plan.local)
    return run_batch(task, plan.blocks(batch, of), record, local_key(plan), comm)


def run_relabel(plan: Plan, batch: int, of: int, comm: Any | None = None) -> Record:
    """Third pass: fragments become global ids in ``labels.zarr``.

    Raises:
        TesseraError: if the merge is not done; as :func:`tessera.volume.engine.run_batch` does.
    """
    blocks = plan.blocks(batch, of)
    tables = Tables(plan)
    mask, labels = Mask(plan), labels_of(plan)

    def read(block: Block) -> np.ndarray:
        return mask.read(block.write)

    def compute(block: Block, inside: np.ndarray) -> Found:
        return fragments.label_box(inside, plan.connectivity)

    def write(block: Block, found: Found) -> None:
        ids, count = found
        table = tables.of(block)
        if len(table) != count + 1:
            raise TesseraError(
                f"{plan.folder}: block {block.name} holds {count} fragments, but the merge knew of "
                f"{len(table) - 1}; the prediction has changed since, run the passes again"
            )
        # Each id has its place in the table: nothing is clipped, and nothing is checked twice.
        labels.write(block.write, np.take(table, ids, mode="clip"))

    def files(block: Block) -> list[Path]:
        return labels.shard_files(block.write)

    task = Task(read, compute, write, files, "label relabel, blocks")
    key = make_key(plan=plan.key, merge=tables.digest)
    return run_batch(task, blocks, plan.record(batch), key, comm)

"""Which fragments lie side by side, and where: the candidates of agglomeration.

A flood-filling network leaves a gap of unlabelled membrane between objects, so each fragment is
first grown by a few voxels into what is nobody's; where two grown fragments then share faces of
voxels, they are in contact. The *point* of a contact is that one of its voxels that is nearest to
its middle.

A block looks at the faces whose lower voxel it owns; sums over blocks are exact, and the point is
that of the block that has seen the most faces. So the result depends on the labels and the block
size alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tessera.label import plan as components
from tessera.label.plan import labels_of
from tessera.volume.box import Block, Box
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, make_key, read_done
from tessera.volume.subvolume import load_arrays, save_arrays

REACH = 3  # voxels that fragments are grown by
COLUMNS = 6  # fragment a < b, faces, z, y, x of the point


def find_contacts(labels: np.ndarray, own: tuple[slice, slice, slice]) -> np.ndarray:
    """Find the contacts in one box.

    Args:
        labels: ids (z, y, x), with ``REACH + 1`` voxels beyond ``own`` where there are any.
        own: the part whose faces count.

    Returns:
        int64 (contact, 6), sorted by a, b: a < b, faces, z, y, x of the point within ``labels``.
    """
    grown = _grow(labels)
    rows = []
    for axis in range(3):
        low = list(own)
        last = min(own[axis].stop + 1, labels.shape[axis])
        high = list(own)
        high[axis] = slice(own[axis].start + 1, last)
        low[axis] = slice(own[axis].start, last - 1)
        a, b = grown[tuple(low)], grown[tuple(high)]
        where = np.nonzero((a != b) & (a > 0) & (b > 0))
        first, second = a[where].astype(np.int64), b[where].astype(np.int64)
        at = np.stack(where, 1) + [s.start for s in low]
        rows.append(np.column_stack([np.minimum(first, second), np.maximum(first, second), at]))
    faces = np.concatenate(rows)
    if not len(faces):
        return np.zeros((0, COLUMNS), np.int64)
    pairs, index = np.unique(faces[:, :2], axis=0, return_inverse=True)
    index = index.ravel()
    count = np.bincount(index)
    middle = np.stack([np.bincount(index, weights=faces[:, 2 + k]) / count for k in range(3)], 1)
    far = ((faces[:, 2:] - middle[index]) ** 2).sum(1)
    # The nearest to the middle of each pair; of equally near ones the first in z, y, x.
    order = np.lexsort((faces[:, 4], faces[:, 3], faces[:, 2], far, index))
    nearest = order[np.searchsorted(index[order], np.arange(len(pairs)))]
    return np.column_stack([pairs, count, faces[nearest, 2:]]).astype(np.int64)


def _grow(labels: np.ndarray) -> np.ndarray:
    """Give voxels of nobody to the nearest fragment within :data:`REACH` voxels."""
    from scipy.ndimage import distance_transform_edt

    if labels.all() or not labels.any():
        return labels
    distance, nearest = distance_transform_edt(labels == 0, return_indices=True)
    return np.where(distance <= REACH, labels[tuple(nearest)], 0)


def contact_file(folder: Path, block: Block) -> Path:
    """Where a block's contacts lie."""
    z, y, x = block.index
    return folder / "contacts" / "blocks" / str(z) / str(y) / f"{x}.npz"


def run_contacts(folder: Path, batch: int, of: int, comm: Any | None = None) -> Record:
    """Find the contacts of the fragments of a batch of blocks.

    Args:
        folder: of an assembly whose ``labels.json`` is written.

    Raises:
        TesseraError: as :func:`tessera.volume.engine.run_batch` does.
    """
    plan = components.read(folder)
    labels = labels_of(plan)

    def box_of(block: Block) -> Box:
        return block.write.grow((REACH + 1,) * 3).intersect(Box.whole(labels.shape))

    def read(block: Block) -> np.ndarray:
        return labels.read(box_of(block))

    def compute(block: Block, ids: np.ndarray) -> np.ndarray:
        box = box_of(block)
        found = find_contacts(ids, block.write.inside(box))
        found[:, 3:] += box.start
        return found

    def write(block: Block, found: np.ndarray) -> dict[str, Any]:
        save_arrays(contact_file(folder, block), contacts=found)
        return {"contacts": len(found)}

    def files(block: Block) -> list[Path]:
        return [contact_file(folder, block)]

    task = Task(read, compute, write, files, "contacts, blocks")
    record = plan.record(batch, folder / "contacts")
    key = make_key(labels=plan.key, reach=REACH)
    return run_batch(task, plan.blocks(batch, of), record, key, comm)


def merge_contacts(folder: Path, min_faces: int) -> int:
    """Add up the contacts of all blocks into ``contacts.npz``; returns how many are kept.

    Args:
        folder: of the assembly.
        min_faces: contacts of fewer faces are left out.
    """
    plan = components.read(folder)
    for batch in range(plan.batches):
        read_done(plan.record(batch, folder / "contacts"))
    parts = [load_arrays(contact_file(folder, b), "contacts")[0] for b in plan.grid]
    kept = add_up([p for p in parts if len(p)])
    kept = kept[kept[:, 2] >= min_faces]
    save_arrays(folder / "contacts.npz", contacts=kept)
    return len(kept)


def add_up(parts: list[np.ndarray]) -> np.ndarray:
    """Sum the faces of each pair over blocks; its point is that of the block with the most."""
    if not parts:
        return np.zeros((0, COLUMNS), np.int64)
    rows = np.concatenate(parts)
    # The most faces first within each pair; of equal ones, the first point in z, y, x.
    order = np.lexsort((rows[:, 5], rows[:, 4], rows[:, 3], -rows[:, 2], rows[:, 1], rows[:, 0]))
    rows = rows[order]
    _, first, index = np.unique(rows[:, :2], axis=0, return_index=True, return_inverse=True)
    out = rows[first].copy()
    out[:, 2] = np.bincount(index.ravel(), weights=rows[:, 2]).astype(np.int64)
    return out

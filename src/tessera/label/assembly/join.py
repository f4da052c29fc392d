"""Agglomeration: fragments whose fills recover each other become one object.

What fills recovered of all pairs is on disk (``tessera predict refill``). It is weighed, as a leak
through a gap in a membrane recovers as much as one neurite does (:func:`evidence`); a threshold
makes a union-find of it, and the fragments' volume is relabelled block by block. Objects are
numbered in the order of their first voxels, as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.label import fragments
from tessera.label import plan as components
from tessera.label.merge import merge_file, number, unite, write_tables
from tessera.label.plan import Plan, labels_of
from tessera.settings.segment import Assembly
from tessera.volume.box import Block, Triple
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, atomic_write, file_hash, make_key
from tessera.volume.store import Layout, create_volume, open_volume, write_errors
from tessera.volume.subvolume import load_arrays, save_arrays

_LEAD = 0.2  # of a fragment's best partner over its next: any from 0.1 to 0.5 does as well


def read_recovered(folder: Path, contacts: np.ndarray) -> np.ndarray:
    """Read what fills recovered of all contacts: float (contact, 5).

    Shares of a and b that the fill from a recovered, the same of the fill from b, and the fills'
    intersection over union.

    Args:
        folder: of ``tessera predict fill refill``.
        contacts: int64 (contact, 6), what it was to fill.

    Raises:
        TesseraError: if it holds nothing, or what is of other contacts.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    recovered = [np.zeros((0, 5))]
    left = len(contacts)
    # What was filled of more contacts than there are now stands behind, and is not read.
    for file in sorted((folder / "units").glob("*.npz")):
        if left <= 0:
            break
        some, found = load_arrays(file, "pairs", "recovered")
        pairs.append(some[:, :2])
        recovered.append(found)
        left -= len(some)
    if not np.array_equal(np.concatenate(pairs), contacts[:, :2]):
        raise TesseraError(
            f"{folder}: was not filled for these contacts; run 'tessera predict fill refill'"
        )
    return np.concatenate(recovered)


def evidence(
    pairs: np.ndarray, recovered: np.ndarray, voxels: np.ndarray, largest: int
) -> np.ndarray:
    """Weigh what fills recovered: how sure it is that two fragments are one. In doubt they are two.

    1. A fill often passes a thin place in one direction alone, so the better of the two counts, and
       of it the lesser of the two shares.
    2. Each fragment has one partner among the larger ones, its best, so that a leaking fragment
       does not make one of all about it; and none if another comes near the best: two neurites that
       fill one fragment say that fills leak there.
    3. A fragment of more than ``largest`` voxels seeks none. A window shows little of it, and to
       join two large neurites wrongly costs more than all else gains.

    Args:
        pairs: int64 (pair, 2), ids.
        recovered: float (pair, 5), see :func:`read_recovered`.
        voxels: int64, of fragments 1, 2, ...
        largest: voxels.

    Returns:
        float (pair,): in 0 .. 1, 0 where the pair is not to be joined.
    """
    sizes = voxels[pairs - 1]
    smaller = np.where(sizes[:, 0] < sizes[:, 1], pairs[:, 0], pairs[:, 1])
    best = np.maximum(recovered[:, 0:2].min(axis=1), recovered[:, 2:4].min(axis=1))
    order = np.lexsort((-best, smaller))
    ranked, whose = best[order], smaller[order]
    again = np.append(whose[1:] == whose[:-1], False)  # the next one is this fragment's, too
    following = np.where(again, np.append(ranked[1:], 0.0), -np.inf)
    first = np.append(True, ~again[:-1]) if len(order) else again
    chosen = order[first & (ranked - following > _LEAD)]
    found = np.zeros(len(pairs))
    found[chosen] = best[chosen]
    found[sizes.min(axis=1) > largest] = 0.0
    return found


def join(count: int, pairs: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Unite fragments.

    Args:
        count: number of fragments; their ids are 1 .. ``count``.
        pairs: int64 (pair, 2) ids.
        scores: float (pair,).
        threshold: pairs of at least this score are one.

    Returns:
        int (count,): the object of each fragment, numbered from 0 in no order.
    """
    same = scores >= threshold
    root, _ = unite(count, pairs[same, :2] - 1)
    return root


def create(
    fragments_folder: Path, scores_folder: Path, settings: Assembly, batches: int, folder: Path
) -> int:
    """Lay out the agglomerated labels; returns the number of objects.

    Args:
        fragments_folder: the assembly, whose ``labels.json`` is written.
        scores_folder: of ``tessera predict refill``.
        settings: how sure fragments must be of each other, see :func:`evidence`.
        batches: number of batches of the relabelling.
        folder: ``label/<model>/<class>``.
    """
    base = components.read(fragments_folder)
    volume = labels_of(base)
    names = ("voxels", "sum_zyx", "box_start", "box_stop")
    voxels, sums, start, stop = load_arrays(merge_file(base), *names)
    objects = np.zeros((len(voxels), fragments.COLUMNS), np.int64)
    objects[:, fragments.VOXELS], objects[:, fragments.SUM] = voxels, sums
    objects[:, fragments.START], objects[:, fragments.STOP] = start, stop
    # Fragments are numbered in the order of their first voxels, so the number stands for it.
    objects[:, fragments.FIRST] = np.arange(len(voxels))
    (contacts,) = load_arrays(fragments_folder / "contacts.npz", "contacts")
    recovered = read_recovered(scores_folder, contacts)
    scores = evidence(contacts[:, :2], recovered, voxels, settings.max_voxels)
    root = join(len(voxels), contacts[:, :2], scores, settings.recovered)
    table, kept = number(objects, root, int(root.max(initial=-1)) + 1, 1)

    digest = json.loads((fragments_folder / "labels.json").read_text())["digest"]
    key = make_key(
        stage="join", fragments=digest, table=hashlib.blake2b(table.tobytes()).hexdigest()
    )
    stored = {
        "key": key,
        "class": json.loads((fragments_folder / "store.json").read_text())["class"],
        "prediction": os.path.relpath(volume.path, folder),
        "level": 0,
        "channel": None,
        "connectivity": 26,
        "min_voxels": 1,
        "shape": list(volume.shape),
        "block": list(volume.shard),
        "batches": batches,
        "recovered": settings.recovered,
    }
    layout = Layout(
        Triple(*volume.shape),
        "uint32",
        volume.voxel_um,
        volume.chunk,
        volume.shard,
        origin_um=volume.origin_um,
    )
    create_volume(folder / "labels.zarr", layout, {"stage": "label", "key": key})
    with write_errors(folder):
        atomic_write(folder / "store.json", json.dumps(stored, indent=1) + "\n")
    plan = components.read(folder)
    save_arrays(folder / "joins.npz", pairs=contacts[:, :2], faces=contacts[:, 2], scores=scores)
    save_arrays(_table_file(plan), table=np.concatenate([np.zeros(1, np.uint32), table]))
    write_tables(plan, np.zeros(len(plan.grid) + 1, np.int64), table, kept)
    return len(kept)


def run_relabel(folder: Path, batch: int, of: int, comm: Any | None = None) -> Record:
    """Relabel the fragments of a batch of blocks.

    Raises:
        TesseraError: as :func:`tessera.volume.engine.run_batch` does.
    """
    plan = components.read(folder)
    source, target = open_volume(plan.prediction), labels_of(plan)
    (table,) = load_arrays(_table_file(plan), "table")

    def compute(block: Block, ids: np.ndarray) -> np.ndarray:
        return np.take(table, ids)

    task = Task(
        lambda block: source.read(block.write),
        compute,
        lambda block, ids: target.write(block.write, ids),
        lambda block: target.shard_files(block.write),
        "join, blocks",
    )
    key = make_key(plan=plan.key, table=file_hash(_table_file(plan)))
    return run_batch(task, plan.blocks(batch, of), plan.record(batch), key, comm)


def _table_file(plan: Plan) -> Path:
    return plan.folder / "joined.npz"

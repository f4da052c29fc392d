"""The last pass: what is known of each object, and the file that says that labels are done."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from tessera.label.merge import merge_file
from tessera.label.plan import Plan, labels_of
from tessera.volume.record import atomic_write, make_key, read_done
from tessera.volume.store import write_errors


def finish(plan: Plan) -> int:
    """Write ``objects.npz`` and, last, ``labels.json``; returns the number of objects.

    Raises:
        TesseraError: if a batch is not done.
    """
    digest = content_digest(plan)
    with np.load(merge_file(plan)) as merged:
        voxels = merged["voxels"]
        centroid = merged["sum_zyx"] / np.maximum(voxels, 1)[:, None]
        start, stop = merged["box_start"], merged["box_stop"]
    labels = labels_of(plan)
    stored = {
        "path": labels.path.name,
        "digest": digest,
        "objects": len(voxels),
        "shape": list(labels.shape),
        "voxel_um": list(labels.voxel_um),
        "origin_um": list(labels.origin_um),
    }
    with write_errors(plan.folder):
        partial = plan.folder / ".objects.npz"
        np.savez(
            partial,
            id=np.arange(1, len(voxels) + 1, dtype=np.uint32),
            voxels=voxels,
            centroid_zyx_vox=centroid,
            box_start=start,
            box_stop=stop,
        )
        os.replace(partial, _objects_file(plan))
        atomic_write(plan.folder / "labels.json", json.dumps(stored, indent=1) + "\n")
    return len(voxels)


def _objects_file(plan: Plan) -> Path:
    return plan.folder / "objects.npz"


def content_digest(plan: Plan) -> str:
    """Return a hash of all shards, block by block: the same for any number of batches.

    Raises:
        TesseraError: if a batch is not done.
    """
    digest = ""
    for batch in range(plan.batches):
        entries = read_done(plan.record(batch)).entries
        for number in plan.grid.batch(batch, plan.batches):
            block = plan.grid[number].name
            digest = make_key(before=digest, block=block, shards=entries[block].shards)
    return digest

"""Boundaries between objects: how well their probability ranks voxels, at every threshold.

The truth is as in ``skimage.segmentation.find_boundaries(mode="thick")``: a voxel with a face
neighbour of another id. The score is the average precision: precision at each of the 256 stored
probabilities, weighted by the recall gained there (Davis and Goadrich 2006,
doi:10.1145/1143844.1143874); no threshold has to be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tessera.evaluate import scores
from tessera.evaluate.scores import Score
from tessera.evaluate.truth import Reader, Truth
from tessera.evaluate.voxels import parts_of
from tessera.volume.box import Box, Triple
from tessera.volume.store import open_volume

LEVELS = 256
_BLOCK = (64, 64, 64)


def boundary_scores(
    folder: Path, truth: Truth, boxes: Sequence[Box], draws: int
) -> dict[str, Score]:
    """Return the average precision of a model of boundaries, from its output in ``folder``."""
    probability = open_probability(folder)
    if probability is None or not truth.instances:
        return {}
    sources = list(truth.instances.values())

    def ids(box: Box) -> np.ndarray:
        out = sources[0](box).astype(np.int64)
        for read in sources[1:]:
            over = read(box)
            out = np.where(over > 0, over, out)
        return out

    units = ranks(probability, ids, boxes, truth.shape)
    found = scores.score(units, average_precision, draws, of="blocks")
    return {"boundary.average_precision": found}


def open_probability(folder: Path) -> Reader | None:
    """Return what reads the boundary's probability (z, y, x) as 0..255; None if there is none."""
    if not (folder / "prob.zarr" / "zarr.json").is_file():
        return None
    volume = open_volume(folder / "prob.zarr")
    return lambda box: volume.read(box)[0]


def ranks(probability: Reader, ids: Reader, boxes: Sequence[Box], shape: Triple) -> np.ndarray:
    """Count voxels by probability, block by block.

    Args:
        probability: reads 0..255, (z, y, x).
        ids: reads object ids, (z, y, x).
        boxes: the test boxes.
        shape: of the volume (z, y, x), whose edge is no boundary.

    Returns:
        array (blocks, 512): voxels of each probability, the largest first, that are boundary, and
        then those that are not.
    """
    rows = []
    for box in boxes:
        for part in parts_of(box, _BLOCK):
            around = part.grow((1, 1, 1)).intersect(Box.whole(shape))
            edge = thick(ids(around))[part.inside(around)]
            level = LEVELS - 1 - probability(part).astype(np.int64)
            counts = np.bincount((level + LEVELS * ~edge).ravel(), minlength=2 * LEVELS)
            rows.append(counts)
    return np.array(rows, np.int64).reshape(-1, 2 * LEVELS)


def thick(ids: np.ndarray) -> np.ndarray:
    """Return where a voxel has a face neighbour of another id, (z, y, x) bool."""
    edge = np.zeros(ids.shape, bool)
    for axis in range(ids.ndim):
        left = np.moveaxis(ids, axis, 0)[:-1]
        right = np.moveaxis(ids, axis, 0)[1:]
        differ = left != right
        np.moveaxis(edge, axis, 0)[:-1] |= differ
        np.moveaxis(edge, axis, 0)[1:] |= differ
    return edge


def average_precision(sums: np.ndarray) -> np.ndarray:
    """Average precision of sums (..., 512) over rows of :func:`ranks`."""
    right, wrong = np.split(np.asarray(sums, float), 2, axis=-1)
    found = np.cumsum(right + wrong, -1)
    precision = np.cumsum(right, -1) / np.maximum(found, 1)
    return np.asarray((precision * right).sum(-1) / right.sum(-1))

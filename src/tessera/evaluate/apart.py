"""Scores of objects that touch: what is cut and what is merged, by voxels and along skeletons."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tessera.errors import TesseraError
from tessera.evaluate import segmentation
from tessera.evaluate.scores import Score
from tessera.evaluate.skeletons import Skeleton, label_nodes, skeleton_scores
from tessera.evaluate.thin import true_skeletons
from tessera.evaluate.truth import Reader
from tessera.evaluate.voxels import parts_of
from tessera.volume.box import Box
from tessera.volume.store import Volume

THRESHOLDS = [n / 20 for n in range(1, 21)]  # of the share that fragments recover of each other
_LINES = (512, 512, 512)  # voxels that are thinned at once
_MERGE_NODES = 5  # voxels of a skeleton that an object must hold to count as one that covers it
CURVE = ("voi_split_both", "voi_merge_both", "voi_sum_both", "voi_sum_whole", "rand_error_both")


def segmentation_scores(
    name: str, labels: Reader, truth: Reader, boxes: Sequence[Box]
) -> dict[str, Score]:
    """Return variation of information (bits), adapted Rand error and coverage, block by block."""
    table = _overlaps(labels, truth, boxes)
    return _segmentation(name, table, segmentation.scores_of(table))


def line_scores(name: str, labels: Volume, truth: Reader, boxes: Sequence[Box]) -> dict[str, Score]:
    """Return edge accuracy and expected run length on the skeletons of the true objects.

    Objects end at the faces of test boxes, and of parts of large ones.
    """
    lines: list[Skeleton] = []
    nodes: list[np.ndarray] = []
    for box in boxes:
        for part in parts_of(box, _LINES):
            some = true_skeletons(truth(part), labels.voxel_um)
            found = labels.read(part)
            lines += some
            nodes += [label_nodes(one, found, labels.voxel_um) for one in some]
    if not lines:
        return {}
    values = skeleton_scores(lines, nodes, _MERGE_NODES)
    return {
        f"{name}.{kind}": Score(
            value, "um" if kind.endswith("_um") else "1", len(lines), of="skeletons"
        )
        for kind, value in values.items()
    }


def agglomeration_scores(
    name: str, fragments: Reader, truth: Reader, boxes: Sequence[Box], joins: Path
) -> dict[str, Score]:
    """Score the fragments, and what agglomeration makes of them at each threshold.

    Args:
        name: the class.
        fragments: reads the fragments' ids.
        truth: reads the true ids.
        boxes: the test boxes.
        joins: ``joins.npz`` of the labels: ``pairs`` of fragments in contact, and their ``scores``.

    Returns:
        ``<name>.fragments.<score>``, and ``<name>.curve.<threshold>.<score>``.
    """
    try:
        with np.load(joins) as data:
            pairs, joined = data["pairs"], data["scores"]
    except (OSError, KeyError, ValueError) as error:
        raise TesseraError(
            f"{joins}: holds no joins ({error}); run the label stage again"
        ) from None
    table = _overlaps(fragments, truth, boxes)
    out = _segmentation(f"{name}.fragments", table, segmentation.scores_of(table))
    for point in segmentation.threshold_curve(table, pairs, joined, THRESHOLDS):
        kept = {kind: point[kind] for kind in CURVE}
        out |= _segmentation(f"{name}.curve.{point['threshold']:.2f}", table, kept)
    return out


def _overlaps(labels: Reader, truth: Reader, boxes: Sequence[Box]) -> segmentation.Overlaps:
    return segmentation.sum_overlaps(
        segmentation.count_overlaps(labels(part), truth(part))
        for box in boxes
        for part in parts_of(box, (64, 64, 64))
    )


def _segmentation(
    name: str, table: segmentation.Overlaps, values: dict[str, float]
) -> dict[str, Score]:
    objects = int(np.count_nonzero(np.unique(table.truth)))
    return {
        f"{name}.{kind}": Score(
            value, "bit" if kind.startswith("voi") else "1", objects, of="objects"
        )
        for kind, value in values.items()
    }

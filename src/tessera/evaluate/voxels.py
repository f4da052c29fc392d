"""Voxel by voxel: hits, false alarms and misses of each class, counted block by block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tessera.errors import TesseraError
from tessera.evaluate.truth import UNLABELLED, Reader
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import Volume, open_volume

BLOCK = (32, 32, 32)  # the unit that is resampled: larger than a soma, so about independent


def predicted_classes(folder: Path, classes: Sequence[str], target: str) -> Volume | None:
    """Open a model's output in ``folder``; None if this kind of model has no class per voxel."""
    if target not in ("classes", "multilabel"):
        return None
    for name in ("classes.zarr", "prob.zarr"):
        if (folder / name / "zarr.json").is_file():
            found = open_volume(folder / name)
            if found.has_channels and len(found.channels) != len(classes):
                raise TesseraError(
                    f"{found.path}: holds {len(found.channels)} channels but the model has "
                    f"{len(classes)} classes; run predict again"
                )
            return found
    return None


def class_reader(volume: Volume, target: str) -> Reader:
    """Return a function that reads a mask of each class, (classes, z, y, x) bool.

    Exclusive classes go to the largest probability, the lower class at a tie. Independent ones
    (``multilabel``) are where the probability is at least one half.
    """

    def read(box: Box) -> np.ndarray:
        data = volume.read(box)
        if not volume.has_channels:
            return np.stack([data == k for k in range(int(data.max(initial=0)) + 1)])
        if target == "multilabel":
            return data >= 128
        best = data.argmax(0)
        return np.stack([best == k for k in range(len(data))])

    return read


def confusion(truth: Reader, predicted: Reader, boxes: Sequence[Box], classes: int) -> np.ndarray:
    """Return hits, false alarms and misses per block and class.

    Args:
        truth: reads class ids; UNLABELLED voxels are not scored.
        predicted: reads masks, (classes, z, y, x).
        boxes: the test boxes.
        classes: number of classes.

    Returns:
        array (blocks, classes, 3) of TP, FP, FN.
    """
    rows = [
        _count(truth(part), predicted(part), classes)
        for box in boxes
        for part in parts_of(box, BLOCK)
    ]
    return np.array(rows, np.int64).reshape(-1, classes, 3)


def parts_of(box: Box, block: tuple[int, int, int]) -> list[Box]:
    """Cut a box into blocks (z, y, x), counted from its corner."""
    return [part.write.shift(box.start) for part in Grid.of(box.shape, block)]


def _count(truth: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    scored = truth != UNLABELLED
    rows = []
    for index in range(classes):
        true = truth == index
        # A volume of class ids need not hold the last class in every block.
        found = predicted[index] & scored if index < len(predicted) else np.zeros_like(true)
        hit = int((true & found).sum())
        rows.append([hit, int(found.sum()) - hit, int(true.sum()) - hit])
    return rows


def clip_boxes(boxes: Sequence[Box], shape: Triple) -> list[Box]:
    """Return the boxes clipped to the volume.

    Raises:
        TesseraError: one lies outside of it.
    """
    clipped = [box.intersect(Box.whole(shape)) for box in boxes]
    for box, part in zip(boxes, clipped, strict=True):
        if part.empty:
            raise TesseraError(
                f"split.test: box {box} lies outside the volume of {tuple(shape)} voxels; move it"
            )
    return clipped

"""Slices of the test box for the report: picture, truth, prediction, and who was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.evaluate.detection import Census, Detection
from tessera.evaluate.truth import Reader
from tessera.volume.box import Box
from tessera.volume.store import Volume

_LARGEST = 640  # pixels a side; a larger test box is cropped about its middle
_HOW_MANY = 3
NONE, FOUND, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Marked:
    """One class whose objects are marked: true and predicted ids, and which of them are wrong."""

    name: str
    truth: Reader | None
    found: Reader
    missed: np.ndarray
    false_alarms: np.ndarray


def marked(
    name: str,
    truth: Reader | None,
    found: Reader,
    true_objects: Census,
    found_objects: Census,
    result: Detection,
) -> Marked:
    """Say which ids of a class were missed and which are false alarms."""
    missed = true_objects.id[result.true_counts & (result.partner_of_truth < 0)]
    false_alarms = found_objects.id[result.found_counts & (result.partner_of_found < 0)]
    return Marked(name, truth, found, missed, false_alarms)


def slice_pictures(
    image: Volume,
    box: Box,
    truth: Reader,
    predicted: Reader | None,
    objects: list[Marked],
) -> dict[str, np.ndarray]:
    """Return slices normal to z at a quarter, a half and three quarters of a box.

    Returns:
        ``image`` (k, y, x) uint8; ``truth`` class ids; ``predicted`` class ids if there are any;
        for each class with objects ``<class>.true`` and ``<class>.found`` (0 none, 1 matched,
        2 missed or false alarm); ``start`` (z, y, x) of each slice in voxels; ``voxel_um``.
    """
    crop = _crop(box)
    depth = crop.shape.z
    levels = sorted({crop.start.z + depth * (n + 1) // (_HOW_MANY + 1) for n in range(_HOW_MANY)})
    planes = [Box.of((z, *crop.start[1:]), (z + 1, *crop.stop[1:])) for z in levels]
    grey = np.stack([image.read(p)[0] for p in planes]).astype(np.float32)
    low, high = np.percentile(grey, [0.5, 99.5])
    out = {
        "image": np.clip((grey - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8),
        "truth": np.stack([truth(p)[0] for p in planes]),
        "start": np.array([p.start for p in planes]),
        "voxel_um": np.array(image.voxel_um),
    }
    if predicted is not None:
        masks = [predicted(p)[:, 0] for p in planes]
        out["predicted"] = np.stack([_class_ids(m) for m in masks])
    for one in objects:
        if one.truth is not None:
            true = np.stack([one.truth(p)[0] for p in planes])
            out[f"{one.name}.true"] = _status(true, one.missed)
        found = np.stack([one.found(p)[0] for p in planes])
        out[f"{one.name}.found"] = _status(found, one.false_alarms)
    return out


def _crop(box: Box) -> Box:
    start, stop = list(box.start), list(box.stop)
    for axis in (1, 2):
        extra = max(0, box.shape[axis] - _LARGEST)
        start[axis] += extra // 2
        stop[axis] = start[axis] + box.shape[axis] - extra
    return Box.of(tuple(start), tuple(stop))


def _class_ids(masks: np.ndarray) -> np.ndarray:
    """One class a pixel, for a picture; of several the last is shown."""
    out = np.zeros(masks.shape[1:], np.uint8)
    for index in range(1, len(masks)):
        out[masks[index]] = index
    return out


def _status(ids: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    out = np.where(ids > 0, FOUND, NONE).astype(np.uint8)
    out[(ids > 0) & np.isin(ids, wrong)] = WRONG
    return out

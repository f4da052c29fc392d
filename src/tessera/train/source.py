"""What a training reads: volumes, their labels, and the boxes that it may use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from tessera.config import BoxSetting, Model, TrainSplit
from tessera.errors import TesseraError
from tessera.train.labels import UNLABELLED, Labels, open_labels
from tessera.volume.box import Box
from tessera.volume.store import Volume, open_volume

_MOST_SCALE = 1.25  # of voxel sizes; augmentation makes the network bear a little less
_HOLD_VOXELS = 48_000_000  # boxes up to this many voxels are kept in memory: 300 MB a rank


@dataclass(frozen=True)
class Source:
    """A volume, and its labels.

    Attributes:
        volume: raw voxels.
        labels: one integer a voxel; None where a model learns from other volumes alone.
        mean: of the whole volume, from ``volume.json``: normalisation is global.
        std: likewise.
        digest: of the volume's content.
    """

    volume: Volume
    labels: Labels | None
    mean: float
    std: float
    digest: str

    def image(self, box: Box) -> np.ndarray:
        """Return normalised float32 voxels of a box; beyond the volume's edge it mirrors.

        Empty voxels (:attr:`Volume.zero_is_empty`) become the mean, as at inference.
        """
        raw = self.volume.read(box)
        fed = (raw.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        if self.volume.zero_is_empty:
            fed[raw == 0] = 0.0
        return fed

    @property
    def normalisation(self) -> dict[str, float]:
        """What a bundle keeps of it, so that inference feeds a network as training does."""
        kept = {"mean": self.mean, "std": self.std}
        integers = self.volume.dtype.kind != "f"
        return kept | {"empty": 0.0} if integers and self.volume.zero_is_empty else kept


@dataclass(frozen=True)
class Lesson:
    """A labelled volume and its boxes.

    Attributes:
        name: of the volume in the config: nothing for the specimen's own, or ``volumes.N``.
        source: volume and labels.
        split: boxes for training, validation and test.
    """

    name: str
    source: Source
    split: TrainSplit

    def regions(self, use: str, patch: tuple[int, int, int]) -> list[Region]:
        """Return the boxes of one use; without any, training takes the whole volume."""
        shape = self.source.volume.shape
        boxes = resolve_all(getattr(self.split, use), shape, use)
        if use == "train":
            boxes = boxes or [Box.whole(shape)]
        return [Region(self.source, box, patch, mirrored=use == "train") for box in boxes]


def open_lessons(
    settings: Model, volume_json: str, truth: str | None, others: Sequence[str] = ()
) -> tuple[Source, list[Lesson]]:
    """Open all that a model learns from; return the specimen's own volume, too.

    Args:
        settings: the model's section.
        volume_json: of the specimen.
        truth: class volume, used if the settings name no labels.
        others: ``volume.json`` of each of the settings' further volumes, in their order.

    Raises:
        TesseraError: if one is missing, or they do not fit each other.
    """
    if len(others) != len(settings.volumes):
        raise TesseraError(
            f"the model learns from {len(settings.volumes)} further volumes, but {len(others)} "
            "were given; give the volume.json of each with --also"
        )
    unlabelled = bool(settings.volumes) and not settings.labels and truth is None
    own = open_data(settings, volume_json, truth, labelled=not unlabelled)
    lessons = [] if unlabelled else [Lesson("", own, settings.split)]
    for number, (other, path) in enumerate(zip(settings.volumes, others, strict=True)):
        labels = settings.model_copy(update={"labels": other.labels})
        source = open_data(labels, path, None)
        check_scale(path, source.volume.voxel_um, own.volume.voxel_um)
        lessons.append(Lesson(f"volumes.{number}", source, other.split))
    return own, lessons


def check_scale(
    where: str, voxel_um: tuple[float, float, float], own_um: tuple[float, float, float]
) -> None:
    """Refuse a volume whose voxels are of quite another size than those of the specimen."""
    if any(max(a / b, b / a) > _MOST_SCALE for a, b in zip(voxel_um, own_um, strict=True)):
        theirs, own = (" x ".join(f"{v:g}" for v in size) for size in (voxel_um, own_um))
        raise TesseraError(
            f"{where}: voxels of {theirs} um, but the specimen's are {own} um, and a network "
            "learns one scale; resample the volume first"
        )


def open_data(
    settings: Model, volume_json: str, truth: str | None, labelled: bool = True
) -> Source:
    """Open the volume that ``volume.json`` describes, and its labels unless told not to.

    Raises:
        TesseraError: if either is missing, or they do not fit each other.
    """
    facts = read_volume_facts(volume_json)
    path = Path(volume_json).parent / facts["path"]
    volume = open_volume(path if path.exists() else facts["path"])
    statistics = facts["statistics"]
    if not statistics["std"] > 0:
        raise TesseraError(f"{volume_json}: the volume is constant; there is nothing to learn from")
    labels = open_labels(settings, truth, volume.shape) if labelled else None
    return Source(
        volume, labels, float(statistics["mean"]), float(statistics["std"]), facts["digest"]
    )


def read_volume_facts(path: str) -> dict[str, Any]:
    """Read ``volume.json``.

    Raises:
        TesseraError: if it is missing or is something else.
    """
    try:
        facts = json.loads(Path(path).read_text())
        facts["path"], facts["statistics"]["mean"], facts["digest"]
    except OSError as error:
        raise TesseraError(f"{path}: cannot be read ({error.strerror}); run mosaic") from None
    except (ValueError, KeyError, TypeError):
        raise TesseraError(
            f"{path}: is not the volume.json that mosaic writes; run mosaic"
        ) from None
    assert isinstance(facts, dict)
    return facts


def resolve(setting: BoxSetting, shape: tuple[int, int, int], use: str) -> Box:
    """Turn a box of the config into one of the volume.

    Raises:
        TesseraError: if nothing of it lies inside.
    """
    stop = tuple(n if b is None else b for b, n in zip(setting.stop, shape, strict=True))
    box = Box.of(setting.start, stop).intersect(Box.whole(shape))
    if box.empty:
        raise TesseraError(
            f"the {use} box from {setting.start} to {setting.stop} lies outside the volume of "
            f"{tuple(shape)} voxels; move it"
        )
    return box


def resolve_all(boxes: tuple[BoxSetting, ...], shape: tuple[int, int, int], use: str) -> list[Box]:
    """Turn several boxes of one use into boxes of the volume."""
    return [resolve(b, shape, use) for b in boxes]


class Region:
    """A training box, from which patches are cut; small ones are read once and kept.

    Args:
        source: volume and labels.
        box: the labelled voxels.
        patch: size (z, y, x) of a patch; where the box is smaller, a patch reaches beyond it, with
            real voxels of the volume and no labels.
        mirrored: a patch may reach a quarter of its size beyond the volume's own edge, too, where
            voxels are mirrored, and have no label. Else few patches hold the voxels there.
    """

    def __init__(
        self, source: Source, box: Box, patch: tuple[int, int, int], mirrored: bool = False
    ) -> None:
        self.source, self.box, self.patch = source, box, patch
        lack = [max(0, p - n) for p, n in zip(patch, box.shape, strict=True)]
        shape = source.volume.shape
        more = [p // 4 if mirrored else 0 for p in patch]
        low = [m if a == 0 else 0 for a, m in zip(box.start, more, strict=True)]
        high = [m if b == n else 0 for b, n, m in zip(box.stop, shape, more, strict=True)]
        self.room = Box.of(
            tuple(a - max(m // 2, e) for a, m, e in zip(box.start, lack, low, strict=True)),
            tuple(b + max(m - m // 2, e) for b, m, e in zip(box.stop, lack, high, strict=True)),
        )
        self._held: tuple[np.ndarray, np.ndarray] | None = None

    def hold(self) -> bool:
        """Keep the voxels in memory if they are few; return whether."""
        if self._held is None and self.room.size <= _HOLD_VOXELS:
            self._held = self._fetch(self.room)
        return self._held is not None

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Return image (float32) and labels of a box inside ``room``."""
        if self._held is None:
            return self._fetch(box)
        inside = box.inside(self.room)
        return self._held[0][inside], self._held[1][inside]

    def digest(self) -> str:
        """Return a hash of the labels in the box."""
        seen = xxhash.xxh3_128()
        for z in range(self.box.start.z, self.box.stop.z, 32):
            slab = Box.of(
                (z, *self.box.start[1:]), (min(z + 32, self.box.stop.z), *self.box.stop[1:])
            )
            seen.update(np.ascontiguousarray(self.read(slab)[1]).tobytes())
        return seen.hexdigest()

    def _fetch(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        assert self.source.labels is not None
        labels = np.full(box.shape, UNLABELLED, self.source.labels.dtype)
        known = box.intersect(self.box)
        if not known.empty:
            labels[known.inside(box)] = self.source.labels.read(known)
        return self.source.image(box), labels

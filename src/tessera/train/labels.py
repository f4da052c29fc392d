"""Labels as training sees them: one integer a voxel, whatever they were stored as.

- target ``classes``: the class's index; several sources paint over each other in the order of the
  config.
- target ``multilabel``: a bit for each class, so that a voxel may be of several; the background's
  (class 0) where no other is.
- target ``boundaries`` or ``affinities``: the object's id, 0 where there is none.
- :data:`UNLABELLED` where nobody has looked: value 255 of class ids, or outside every box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tessera.config import Model, VolumeSource
from tessera.errors import TesseraError
from tessera.formats import open_source
from tessera.volume.box import Box
from tessera.volume.store import open_volume

UNLABELLED = -1
_STORED_UNLABELLED = 255


class Readable(Protocol):
    """A volume that is read by boxes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size (z, y, x)."""

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box that lies inside."""


@dataclass(frozen=True)
class _Source:
    volume: Readable
    where: str
    instances_of: int | None  # class of all objects; None: the voxels are class ids


class Labels:
    """The labels of one volume.

    Args:
        sources: what is on disk.
        classes: names of the classes, for messages.
        target: of the model.
    """

    def __init__(self, sources: Sequence[_Source], classes: Sequence[str], target: str) -> None:
        self._sources, self._classes = list(sources), list(classes)
        self._ids, self._bits = target in ("boundaries", "affinities"), target == "multilabel"
        self.dtype = np.dtype(np.int16 if target == "classes" else np.int32)

    def read(self, box: Box) -> np.ndarray:
        """Return the labels (z, y, x) of a box inside the volume.

        Raises:
            TesseraError: if a voxel holds a class that has no name.
        """
        out = np.zeros(box.shape, self.dtype)
        for source in self._sources:
            voxels = np.asarray(source.volume.read(box))
            if self._ids:
                out = np.where(voxels > 0, voxels.astype(np.int32), out)
            elif source.instances_of is not None:
                self._put(out, voxels > 0, source.instances_of)
            else:
                self._paint(out, voxels, source.where)
        if self._bits:
            out[out == 0] = 1
        return out

    def _put(self, out: np.ndarray, where: np.ndarray, index: int | np.ndarray) -> None:
        """Say that voxels are of a class: over what was said before, or beside it."""
        if self._bits:
            known = np.maximum(out[where], 0)  # nothing, if nobody had looked
            out[where] = known | np.left_shift(1, index)
        else:
            out[where] = index

    def _paint(self, out: np.ndarray, voxels: np.ndarray, where: str) -> None:
        unknown = voxels == _STORED_UNLABELLED
        wrong = (voxels >= len(self._classes)) & ~unknown
        if wrong.any():
            raise TesseraError(
                f"{where}: holds label {int(voxels[wrong][0])}, but the config names the classes "
                f"0 to {len(self._classes) - 1} ({', '.join(self._classes)}); name it under "
                "classes, or say instances_of if the labels are object ids"
            )
        out[unknown & (out == 0)] = UNLABELLED
        painted = (voxels > 0) & ~unknown
        self._put(out, painted, voxels[painted].astype(self.dtype))


def open_labels(settings: Model, truth: str | None, shape: tuple[int, int, int]) -> Labels:
    """Open the labels of a volume of this (z, y, x) shape.

    Args:
        settings: names the sources; without any, ``truth`` is read.
        truth: OME-Zarr volume of class ids.
        shape: the volume's, which the labels must have.

    Raises:
        TesseraError: if there are none, or their shape is not the volume's.
    """
    found: list[_Source] = []
    for source in settings.labels:
        where = f"{source.path}" + (f":{source.dataset}" if source.dataset else "")
        kind = source.instances_of
        index = None if kind is None else settings.classes.index(kind)
        volume = open_source(VolumeSource(path=source.path, dataset=source.dataset))
        found.append(_Source(volume, where, index))
    if not found:
        if truth is None:
            raise TesseraError(
                "the model has no labels to learn from; give some under 'labels', or --truth"
            )
        found.append(_Source(open_volume(truth), truth, None))
    for one in found:
        if tuple(one.volume.shape) != tuple(shape):
            raise TesseraError(
                f"{one.where}: labels of shape {tuple(one.volume.shape)} do not fit the volume of "
                f"shape {tuple(shape)}; give labels of the volume itself"
            )
    return Labels(found, settings.classes, settings.target)

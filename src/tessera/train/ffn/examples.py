"""Examples: a patch about a voxel of an object, and which of its voxels are that object's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tessera.config import Augment
from tessera.errors import TesseraError
from tessera.train.augment import augment
from tessera.train.ffn.partitions import RADIUS, partition
from tessera.train.labels import UNLABELLED
from tessera.train.source import Region
from tessera.volume.box import Box

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Example:
    """One object to fill.

    Attributes:
        image: float32 (z, y, x), normalised.
        inside: float32 (z, y, x), 1 in the object, 0 outside.
        known: float32 (z, y, x), 1 where somebody has looked, else 0.
    """

    image: Tensor
    inside: Tensor
    known: Tensor


class Examples:
    """Draws examples, each partition of local object mass equally often.

    Args:
        regions: labelled boxes whose patches have size ``patch``.
        patch: size (z, y, x), odd.
        options: variations; all off gives the patches as they are.
        equal_axes: axes that variations may exchange.
        radius: of the local object mass.

    Raises:
        TesseraError: if no voxel of an object lies far enough from the edges.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        patch: Size,
        options: Augment,
        equal_axes: tuple[int, ...],
        radius: Size = RADIUS,
    ) -> None:
        self._regions, self._patch = list(regions), patch
        self._options, self._axes = options, equal_axes
        # Of each partition: which region, and where in it (flat index).
        self._places: list[tuple[np.ndarray, np.ndarray]] = []
        maps = [self._usable(region, radius) for region in self._regions]
        for one in range(1, 1 + max((int(m.max(initial=0)) for m in maps), default=0)):
            found = [np.flatnonzero(m == one) for m in maps]
            where = np.repeat(np.arange(len(found)), [len(f) for f in found])
            if len(where):
                self._places.append((where.astype(np.int32), np.concatenate(found)))
        if not self._places:
            raise TesseraError(
                f"no labelled object has a voxel {patch[0] // 2} or more voxels from the faces of "
                "its box; enlarge the boxes, or make the field of view smaller"
            )

    @property
    def partitions(self) -> int:
        """How many partitions hold voxels."""
        return len(self._places)

    def _usable(self, region: Region, radius: Size) -> np.ndarray:
        _, labels = region.read(region.box)
        found = partition(labels, radius)
        kept = np.zeros_like(found)
        inner = tuple(
            slice(p // 2, n - p // 2) for p, n in zip(self._patch, found.shape, strict=True)
        )
        kept[inner] = found[inner]
        return kept

    def draw(self, seed: np.random.SeedSequence) -> Example:
        """Return the example that a seed stands for."""
        random = np.random.default_rng(seed)
        where, flat = self._places[int(random.integers(len(self._places)))]
        pick = int(random.integers(len(where)))
        region = self._regions[int(where[pick])]
        local = np.unravel_index(int(flat[pick]), region.box.shape)
        centre = [int(i) + a for i, a in zip(local, region.box.start, strict=True)]
        start = tuple(c - p // 2 for c, p in zip(centre, self._patch, strict=True))
        box = Box.of(start, tuple(a + p for a, p in zip(start, self._patch, strict=True)))
        image, labels = (torch.from_numpy(np.ascontiguousarray(v)) for v in region.read(box))
        middle = tuple(p // 2 for p in self._patch)
        varied, moved = augment(
            image, labels, self._options, self._axes, int(random.integers(2**62))
        )
        if int(moved[middle]) <= 0:  # a deformation has pushed the object off its centre
            varied, moved = image, labels
        return Example(
            varied.contiguous(),
            (moved == moved[middle]).float().contiguous(),
            (moved != UNLABELLED).float().contiguous(),
        )

"""Which patch is sample number k: drawn by class, from the sample's own seed.

A sample is a function of the training's seed and of its number, and of nothing else. So a run
repeats, a resumed run goes on where it stood, and N ranks with batch b see together exactly what
one rank with batch N * b sees.

A class is drawn first, each as likely as another; then a cell of 8 x 8 x 8 voxels, as likely as it
holds many voxels of that class; the patch lies about it at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.train.source import Region
from tessera.volume.box import Box

_CELL = 8
_SLAB = 64


@dataclass(frozen=True)
class Census:
    """What the training boxes hold.

    Attributes:
        counts: per region, voxels of each class in each cell: (z, y, x, class).
        voxels: labelled voxels of each class, in all regions.
    """

    counts: tuple[np.ndarray, ...]
    voxels: np.ndarray


def take_census(regions: Sequence[Region], classes: int, bits: bool = False) -> Census:
    """Count classes in cells, slab by slab.

    Args:
        regions: training boxes.
        classes: number of classes; 1 counts whatever is labelled (targets of object ids).
        bits: labels hold a bit for each class (target ``multilabel``), not its index.
    """
    tables = []
    for region in regions:
        cells = tuple(-(-n // _CELL) for n in region.box.shape)
        table = np.zeros((*cells, classes), np.uint32)
        for z in range(0, region.box.shape.z, _SLAB):
            start = (region.box.start.z + z, *region.box.start[1:])
            stop = (min(start[0] + _SLAB, region.box.stop.z), *region.box.stop[1:])
            _, labels = region.read(Box.of(start, stop))
            for index in range(classes):
                if classes == 1:
                    wanted = labels >= 0
                elif bits:
                    wanted = (labels >= 0) & ((labels >> index) & 1 > 0)
                else:
                    wanted = labels == index
                part = _sum_cells(wanted)
                at = z // _CELL
                table[at : at + part.shape[0], ..., index] = part
        tables.append(table)
    voxels = sum((t.sum((0, 1, 2), dtype=np.int64) for t in tables), np.zeros(classes, np.int64))
    return Census(tuple(tables), voxels)


def _sum_cells(mask: np.ndarray) -> np.ndarray:
    """Count true voxels in cells; the last ones of an axis may be smaller."""
    out = mask.astype(np.uint32)
    for axis in range(3):
        edges = np.arange(0, mask.shape[axis], _CELL)
        out = np.add.reduceat(out, edges, axis=axis)
    return out


class Sampler:
    """Draws the patch of each sample.

    Args:
        regions: training boxes.
        census: what they hold.
        patch: size (z, y, x).
        seed: of the training.
    """

    def __init__(
        self, regions: Sequence[Region], census: Census, patch: tuple[int, int, int], seed: int
    ) -> None:
        self._regions, self._patch, self._seed = list(regions), patch, seed
        self._shapes = [t.shape[:3] for t in census.counts]
        sizes = [int(np.prod(s)) for s in self._shapes]
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        flat = np.concatenate([t.reshape(-1, t.shape[-1]) for t in census.counts])
        self._classes = [c for c in range(flat.shape[1]) if census.voxels[c] > 0]
        self._cumulative = {c: np.cumsum(flat[:, c], dtype=np.int64) for c in self._classes}

    def seed_of(self, number: int) -> np.random.SeedSequence:
        """Return the seed of sample ``number``."""
        return np.random.SeedSequence([self._seed, number])

    def place(self, number: int) -> tuple[Region, Box]:
        """Return where sample ``number`` lies."""
        random = np.random.default_rng(self.seed_of(number))
        table = self._cumulative[self._classes[int(random.integers(len(self._classes)))]]
        cell = int(np.searchsorted(table, random.integers(table[-1]), side="right"))
        which = int(np.searchsorted(self._first, cell, side="right")) - 1
        region = self._regions[which]
        place = np.unravel_index(cell - int(self._first[which]), self._shapes[which])
        start = []
        for axis in range(3):
            size, room = self._patch[axis], region.room
            voxel = region.box.start[axis] + int(place[axis]) * _CELL + random.integers(_CELL)
            offset = random.integers(size // 4, size - size // 4 + 1)
            low, high = room.start[axis], room.stop[axis] - size
            start.append(int(np.clip(voxel - offset, low, high)))
        box = Box.of(tuple(start), tuple(a + n for a, n in zip(start, self._patch, strict=True)))
        return region, box

"""What is true where: class ids, and instances of some classes, read box by box.

Truth is either the simulated specimen's, or what a person has labelled (``models.<name>.labels``,
or ``evaluate.truth`` in its place). Several label sources lie over one another: a later one wins
where it is not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from tessera.config import LabelSource, VolumeSource
from tessera.errors import TesseraError
from tessera.evaluate.detection import Census, inside
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import Volume

Reader = Callable[[Box], np.ndarray]

SIMULATED = ("background", "soma", "vessel")  # what the ids in simulate/truth.zarr mean
UNLABELLED = 255  # in truth's class ids: nobody has said what it is, and it is not scored
_MARGIN = 48  # voxels around a test box in which touching voxels are joined to objects
_BLOCK = (64, 64, 64)


@dataclass(frozen=True)
class Truth:
    """Truth in the frame of the volume.

    Attributes:
        shape: size (z, y, x) in voxels.
        classes: reads class ids (uint8) in the order of the model's classes; UNLABELLED where
            nothing is known.
        named: the model's classes that this truth knows.
        instances: class -> reads instance ids, where a person or the simulation gave them.
    """

    shape: Triple
    classes: Reader
    named: tuple[str, ...]
    instances: dict[str, Reader] = field(default_factory=dict)

    def census(self, name: str, boxes: Sequence[Box]) -> Census:
        """Return the true objects of a class.

        Without instances, objects are the connected components (26 neighbours) of the class in
        each test box and a margin around it.
        """
        if name in self.instances:
            return count_objects(self.instances[name], Grid.of(self.shape, _BLOCK))
        index = self.named.index(name)
        found = [self._components(index, n, boxes) for n in range(len(boxes))]
        return Census(
            np.arange(1, 1 + sum(map(len, found))),
            np.concatenate([np.zeros(0, np.int64), *(c.voxels for c in found)]),
            np.concatenate([np.zeros((0, 3)), *(c.centroid_vox for c in found)]),
        )

    def _components(self, index: int, number: int, boxes: Sequence[Box]) -> Census:
        """Components in and around one box, but for those that another box will find itself."""
        import cc3d

        around = boxes[number].grow((_MARGIN,) * 3).intersect(Box.whole(self.shape))
        parts = cc3d.connected_components(self.classes(around) == index, connectivity=26)
        found = count_objects(lambda b: parts[b.slices], Grid.of(around.shape, around.shape))
        centroid = found.centroid_vox + np.array(around.start)
        others = [box for n, box in enumerate(boxes) if n != number]
        own = inside(centroid, boxes[number : number + 1]) | ~inside(centroid, others)
        return Census(found.id[own], found.voxels[own], centroid[own])


def simulated_truth(classes: Volume, ids: Volume | None, model: Sequence[str]) -> Truth:
    """Return the simulated specimen's truth in a model's order of classes.

    A true class that the model does not name is background to it.
    """
    order = np.array([model.index(n) if n in model else 0 for n in SIMULATED], np.uint8)
    return Truth(
        classes.shape,
        lambda box: order[classes.read(box)],
        tuple(n if n in SIMULATED else "" for n in model),
        {"soma": ids.read} if ids is not None and "soma" in model else {},
    )


def labelled_truth(sources: Sequence[LabelSource], model: Sequence[str], stack: ExitStack) -> Truth:
    """Return what people have labelled, in a model's order of classes.

    Args:
        sources: label volumes; each holds class ids, or instances of one class.
        model: names of the model's classes, class 0 first.
        stack: closes the files.

    Raises:
        TesseraError: shapes differ, or labels are of a class that the model does not have.
    """
    from tessera.formats import open_source

    readers: list[tuple[LabelSource, Reader]] = []
    shape: tuple[int, ...] | None = None
    for source in sources:
        opened = stack.enter_context(
            open_source(VolumeSource(path=source.path, dataset=source.dataset, voxel_um=None))
        )
        if shape is not None and tuple(opened.shape) != shape:
            raise TesseraError(
                f"{source.path}: labels of {tuple(opened.shape)} voxels beside labels of {shape}; "
                "give labels of one volume"
            )
        shape = tuple(opened.shape)
        readers.append((source, opened.read))
    if shape is None:
        raise TesseraError("there is no truth to score against; give labels or a simulation")
    instances = {
        source.instances_of: read for source, read in readers if source.instances_of is not None
    }
    named = tuple(model) if any(s.instances_of is None for s, _ in readers) else (
        model[0], *(n if n in instances else "" for n in model[1:])
    )  # fmt: skip
    return Truth(Triple(*shape), _overlaid(readers, list(model)), named, instances)


def _overlaid(readers: Sequence[tuple[LabelSource, Reader]], model: list[str]) -> Reader:
    def read(box: Box) -> np.ndarray:
        out = np.zeros(box.shape, np.uint8)
        for source, part in readers:
            data = part(box)
            if source.instances_of is not None:
                out[data != 0] = model.index(source.instances_of)
                continue
            unknown = data == UNLABELLED
            painted = (data != 0) & ~unknown
            highest = int(data[painted].max(initial=0))
            if highest >= len(model):
                raise TesseraError(
                    f"{source.path}: holds class {highest} but the model names {len(model)} "
                    f"classes ({', '.join(model)}); name it in the config or give the right labels"
                )
            out[unknown & (out == 0)] = UNLABELLED
            out[painted] = data[painted].astype(np.uint8)
        return out

    return read


def count_objects(read: Reader, grid: Grid) -> Census:
    """Return size and centroid of all ids but 0, block by block.

    Memory is bounded by a block and by the number of (object, block) pairs.
    """
    rows: list[np.ndarray] = []
    for block in grid:
        ids = read(block.write)
        where = np.nonzero(ids)
        if not where[0].size:
            continue
        known, row = np.unique(ids[where], return_inverse=True)
        sums = [np.bincount(row)] + [
            np.bincount(row, w + start) for w, start in zip(where, block.write.start, strict=True)
        ]
        rows.append(np.stack([known.astype(np.float64), *sums], 1))
    if not rows:
        return Census.empty()
    table = np.concatenate(rows)
    ids, row = np.unique(table[:, 0].astype(np.int64), return_inverse=True)
    voxels, *sums = (np.bincount(row, table[:, n]) for n in range(1, 5))
    return Census(ids, voxels.astype(np.int64), np.stack(sums, 1) / voxels[:, None])

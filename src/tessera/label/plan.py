"""What all passes of one class follow: where the prediction is, which blocks, what counts.

``store.json`` is written once, by ``tessera label store``, and read by every later pass, so that
no two batches can follow different settings.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.box import Block, Box, Grid, Triple
from tessera.volume.record import atomic_write, make_key
from tessera.volume.store import Layout, Volume, create_volume, open_volume, write_errors

if TYPE_CHECKING:
    from tessera.config import Label

LARGEST_ID = 2**32 - 1  # labels are uint32


@dataclass(frozen=True)
class Plan:
    """The content of a class's ``store.json``.

    Attributes:
        folder: ``label/<model>/<class>``; everything that the passes write is below it.
        key: hash of all that the labels depend on.
        name: the class.
        prediction: the volume of probabilities or classes.
        level: a voxel belongs to the class if its value is at least this (probabilities) or
            exactly this (classes).
        channel: channel of the class among the probabilities; None if the volume holds classes.
        connectivity: neighbours of a voxel: 6, 18 or 26.
        min_voxels: smaller objects get no id.
        grid: the blocks; a block's shard is its write box.
        batches: number of batches.
    """

    folder: Path
    key: str
    name: str
    prediction: Path
    level: int
    channel: int | None
    connectivity: int
    min_voxels: int
    grid: Grid
    batches: int

    @property
    def labels(self) -> Path:
        """The label volume."""
        return self.folder / "labels.zarr"

    @property
    def local(self) -> Path:
        """Folder of what the first pass leaves for the merge."""
        return self.folder / "local"

    def blocks(self, batch: int, of: int) -> list[Block]:
        """Return the blocks of a batch.

        Raises:
            TesseraError: if the volume was not laid out for this number of batches.
        """
        if of != self.batches or not 0 <= batch < of:
            raise TesseraError(
                f"{self.folder}: batch {batch} of {of} does not exist, the store has "
                f"{self.batches}; number them from 0, or run 'tessera label store' again"
            )
        return [self.grid[number] for number in self.grid.batch(batch, of)]

    def record(self, batch: int, folder: Path | None = None) -> Path:
        """Where a batch's record lies: of the last pass, or of the pass in ``folder``."""
        return (folder or self.folder) / "records" / f"{batch:04d}.json"


class Mask:
    """The voxels of one class, read by boxes from the prediction."""

    def __init__(self, plan: Plan) -> None:
        self._volume = open_volume(plan.prediction)
        self._plan = plan

    def read(self, box: Box) -> np.ndarray:
        """Return True (z, y, x) where the voxel belongs to the class; ``box`` inside the volume."""
        values = self._volume.read(box, self._plan.channel)
        level = self._plan.level
        return values == level if self._plan.channel is None else values >= level


def create(settings: Label, name: str, prediction: Path, batches: int, folder: Path) -> Plan:
    """Write ``store.json``, which says what all passes of one class follow.

    Args:
        settings: the section ``label``.
        name: the class.
        prediction: ``predict/<model>/store.json``, all of whose batches are done.
        batches: number of batches of the passes over blocks.
        folder: ``label/<model>/<class>``.

    Raises:
        TesseraError: if the prediction is not there, not finished, or has no such class.
    """
    given = _read_json(prediction, "run 'tessera predict store'")
    _check_done(prediction, given)
    classes = [str(c) for c in given["classes"]]
    if name not in classes:
        raise TesseraError(
            f"{prediction}: predicts no class '{name}'; name one of {', '.join(classes)} under "
            "label.classes"
        )
    volume = open_volume(prediction.parent / given["path"])
    number = classes.index(name)
    probabilities = volume.has_channels
    # A probability p is stored as round(255 p); the smallest stored value that counts as >= p.
    level = math.ceil(settings.threshold * 255 - 1e-9) if probabilities else number
    key = make_key(
        stage="label",
        prediction=given["key"],
        name=name,
        threshold=settings.threshold,
        connectivity=settings.connectivity,
        min_voxels=settings.min_voxels,
        block=settings.block,
        # The last pass has to number a block's fragments as the first one did.
        cc3d=version("connected-components-3d"),
    )
    stored = {
        "key": key,
        "class": name,
        "prediction": os.path.relpath(volume.path, folder),
        "level": level,
        "channel": number if probabilities else None,
        "connectivity": settings.connectivity,
        "min_voxels": settings.min_voxels,
        "shape": list(volume.shape),
        "block": list(settings.block),
        "batches": batches,
    }
    with write_errors(folder):
        atomic_write(folder / "store.json", json.dumps(stored, indent=1) + "\n")
    return read(folder)


def lay_out(plan: Plan) -> None:
    """Make the empty ``labels.zarr`` that the third pass fills."""
    volume = open_volume(plan.prediction)
    layout = Layout(
        volume.shape,
        "uint32",
        volume.voxel_um,
        chunk=Triple(*map(_chunk, plan.grid.block)),
        shard=plan.grid.block,
        origin_um=volume.origin_um,
    )
    create_volume(plan.labels, layout, {"stage": "label", "class": plan.name, "key": plan.key})


def read(folder: Path) -> Plan:
    """Read ``store.json`` in ``folder``.

    Raises:
        TesseraError: if there is none.
    """
    given = _read_json(folder / "store.json", "run 'tessera label store'")
    return Plan(
        folder=folder,
        key=given["key"],
        name=given["class"],
        prediction=folder / given["prediction"],
        level=given["level"],
        channel=given["channel"],
        connectivity=given["connectivity"],
        min_voxels=given["min_voxels"],
        grid=Grid.of(given["shape"], given["block"]),
        batches=given["batches"],
    )


def local_key(plan: Plan) -> str:
    """Return the key of the first pass, whose entries hold packed fragments."""
    return make_key(plan=plan.key, holds="fragments, faces")


def labels_of(plan: Plan) -> Volume:
    """Open the label volume."""
    return open_volume(plan.labels)


def _check_done(prediction: Path, given: dict[str, Any]) -> None:
    """Labels are only made from what is finished."""
    left = [
        n
        for n in range(given["batches"])
        if not (prediction.parent / "records" / f"{n:04d}.json").is_file()
    ]
    if left:
        raise TesseraError(
            f"{prediction.parent}: {len(left)} of {given['batches']} batches of the prediction "
            f"are not done, batch {left[0]} first; run 'tessera predict run' for them"
        )


def _chunk(size: int) -> int:
    """Largest divisor of a shard's size that is good to read (16 to 64); else the size itself."""
    return max((d for d in range(16, 65) if size % d == 0), default=size)


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise TesseraError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except json.JSONDecodeError as error:
        raise TesseraError(f"{path}: is not JSON ({error}); {remedy} again") from None
    if not isinstance(found, dict):
        raise TesseraError(f"{path}: holds no settings; {remedy} again")
    return found

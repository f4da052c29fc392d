"""What the passes of an assembly follow: the folders of subvolumes, and how strict to be."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.config import Label
from tessera.errors import TesseraError
from tessera.label import plan as components
from tessera.label.assembly.consensus import consensus
from tessera.volume.box import Block, Box, Triple
from tessera.volume.record import atomic_write, make_key, read_done
from tessera.volume.store import Layout, create_volume, write_errors
from tessera.volume.subvolume import (
    CHUNK,
    Store,
    extent,
    load_arrays,
    read_store,
    subvolume_file,
)


@dataclass(frozen=True)
class Plan:
    """An assembly.

    Attributes:
        base: what it shares with the labelling of components: grid, key, batches, folders.
        sources: folders ``predict/<model>`` whose segmentations must agree.
        store: what these folders have in common: boxes and overlap.
        agreement: see :func:`tessera.label.assembly.matching.match`.
        piece_voxels: smaller pieces of a consensus are dropped.
    """

    base: components.Plan
    sources: tuple[Path, ...]
    store: Store
    agreement: float
    piece_voxels: int

    @property
    def matches(self) -> Path:
        """Folder of what the first pass leaves for the merge."""
        return self.base.folder / "match"

    def match_file(self, block: Block) -> Path:
        """Where a block's fragments and matches lie."""
        z, y, x = block.index
        return self.matches / "pairs" / str(z) / str(y) / f"{x}.npz"

    def blocks(self, batch: int, of: int) -> list[Block]:
        """Return the blocks of a batch, with the overlap in their read boxes."""
        return [self.store.grid.at(b.index) for b in self.base.blocks(batch, of)]

    def labels_of(self, block: Block) -> tuple[np.ndarray, Box]:
        """Return a subvolume's labels, agreed between all fills and sources, and its box."""
        layers: list[np.ndarray] = []
        for source in self.sources:
            (labels,) = load_arrays(subvolume_file(source, block.index), "labels")
            layers.extend(labels)
        return consensus(layers, self.piece_voxels), extent(block, self.store.shape)


def create(
    settings: Label, name: str, predictions: Sequence[Path], batches: int, folder: Path
) -> Plan:
    """Lay out an assembly: an empty ``labels.zarr`` and ``store.json``.

    Args:
        settings: the section ``label``.
        name: the class that the objects are of.
        predictions: one or more ``store.json`` of filled subvolumes, all of the same boxes.
        batches: number of batches of the passes over blocks.
        folder: ``label/<model>/<class>``.

    Raises:
        TesseraError: if a prediction is missing, unfinished, or of other boxes than the first.
    """
    sources = [p.parent for p in predictions]
    stores = [read_store(s) for s in sources]
    first = stores[0]
    for source, store in zip(sources, stores, strict=True):
        same = (store.shape, store.block, store.overlap_vox)
        if same != (first.shape, first.block, first.overlap_vox):
            raise TesseraError(
                f"{source}: is of other subvolumes than {sources[0]}; fill both with the same "
                "predict.fill.subvolume and overlap_vox"
            )
        if name not in store.classes:
            raise TesseraError(
                f"{source}: fills no class '{name}'; name one of {', '.join(store.classes)}"
            )
        for number in range(store.batches):
            read_done(source / "records" / f"{number:04d}.json")
    assembly = settings.assembly
    key = make_key(
        stage="assemble",
        fills=[s.key for s in stores],
        agreement=assembly.agreement,
        piece_voxels=assembly.min_voxels,
        min_voxels=settings.min_voxels,
    )
    stored = {
        "key": key,
        "class": name,
        "prediction": os.path.relpath(sources[0], folder),
        "sources": [os.path.relpath(s, folder) for s in sources],
        "level": 0,
        "channel": None,
        "connectivity": 26,
        "min_voxels": settings.min_voxels,
        "shape": list(first.shape),
        "block": list(first.block),
        "batches": batches,
        "agreement": assembly.agreement,
        "piece_voxels": assembly.min_voxels,
    }
    layout = Layout(
        Triple(*first.shape),
        "uint32",
        first.voxel_um,
        chunk=Triple(CHUNK, CHUNK, CHUNK),
        shard=Triple(*first.block),
        origin_um=first.origin_um,
    )
    create_volume(folder / "labels.zarr", layout, {"stage": "label", "class": name, "key": key})
    with write_errors(folder):
        atomic_write(folder / "store.json", json.dumps(stored, indent=1) + "\n")
    return read(folder)


def read(folder: Path) -> Plan:
    """Read ``store.json`` of an assembly.

    Raises:
        TesseraError: if there is none.
    """
    base = components.read(folder)
    given: dict[str, Any] = json.loads((folder / "store.json").read_text())
    if "sources" not in given:
        raise TesseraError(
            f"{folder}: was laid out for connected components; run 'tessera label assemble store'"
        )
    sources = tuple(folder / s for s in given["sources"])
    return Plan(base, sources, read_store(sources[0]), given["agreement"], given["piece_voxels"])

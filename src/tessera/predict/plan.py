"""What all batches of one model's inference follow: ``predict/<model>/store.json``.

A read box is the write box grown by the network's receptive field: real neighbouring voxels, so
that no block edge can be seen in the result, and no blending is needed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera import __version__
from tessera.config import Predict, section_json
from tessera.errors import TesseraError
from tessera.nets.bundle import Facts, load
from tessera.predict.memory import memory_of
from tessera.predict.shape import compute_block
from tessera.volume.box import Block, Box, Grid, Triple
from tessera.volume.record import atomic_write, make_key
from tessera.volume.store import Layout, create_volume, open_volume, write_errors


@dataclass(frozen=True)
class Plan:
    """The content of ``store.json``.

    Attributes:
        folder: ``predict/<model>``.
        key: hash of all that the prediction depends on.
        path: the store, below ``folder``.
        volume: the volume that is read.
        model: folder of the bundle.
        grid: blocks; a write box is one or more shards, a read box has the network's halo.
        align: what read boxes begin and end at multiples of.
        settings: the section ``predict``.
        batches: number of batches.
    """

    folder: Path
    key: str
    path: str
    volume: Path
    model: Path
    grid: Grid
    align: Triple
    settings: Predict
    batches: int

    def blocks(self, batch: int, of: int) -> list[Block]:
        """Return a batch's blocks.

        Raises:
            TesseraError: the store was laid out for another number of batches.
        """
        if of != self.batches or not 0 <= batch < of:
            raise TesseraError(
                f"{self.folder}: batch {batch} of {of} does not exist, the store has "
                f"{self.batches}; number them from 0, or run 'tessera predict store' again"
            )
        return [self._within(self.grid[n]) for n in self.grid.batch(batch, of)]

    def _within(self, block: Block) -> Block:
        """The read box ends where a whole number of the network's strides ends, or the volume does.

        Nothing beyond the volume is made up, but for the rest of a stride, which is mirrored: there
        the network pads, as it has learnt to at the edges of its patches.
        """
        start = tuple(max(a, 0) for a in block.read.start)
        stop = tuple(
            -(-min(b, n) // s) * s
            for b, n, s in zip(block.read.stop, self.grid.shape, self.align, strict=True)
        )
        return Block(block.index, block.write, Box.of(start, stop))


def create(settings: Predict, volume_json: Path, model: Path, batches: int, folder: Path) -> Plan:
    """Lay out the store of one model's prediction.

    Raises:
        TesseraError: the volume or the bundle cannot be read, or the blocks do not fit the
            network's strides.
    """
    volume = _read_json(volume_json)
    bundle = load(model)
    facts = bundle.facts
    _check_blocks(settings, facts)
    path = volume_json.parent / volume["path"]
    given = open_volume(path)
    block = compute_block(
        given.shape,
        Triple(*settings.block),
        Triple(*facts.halo_vox),
        memory_of(bundle.net, facts.halo_vox, facts.align_vox),
        settings.memory_gib,
    )
    probabilities = settings.output == "probabilities"
    key = make_key(
        stage="predict",
        settings=section_json(settings),
        volume=volume["digest"],
        model=bundle.digest,
        block=block,
    )
    name = "prob.zarr" if probabilities else "classes.zarr"
    layout = Layout(
        given.shape,
        "uint8",
        given.voxel_um,
        chunk=Triple(*settings.chunk),
        shard=Triple(*settings.block),
        channels=facts.classes if probabilities else (),
        origin_um=given.origin_um,
    )
    stored = {
        "key": key,
        "path": name,
        "classes": list(facts.classes),
        "volume": os.path.relpath(path, folder),
        "model": os.path.relpath(model, folder),
        "shape": list(given.shape),
        "block": list(block),
        "halo": list(facts.halo_vox),
        "align": list(facts.align_vox),
        "settings": settings.model_dump(mode="json"),
        "batches": batches,
    }
    create_volume(folder / name, layout, {"stage": "predict", "version": __version__, "key": key})
    with write_errors(folder):
        atomic_write(folder / "store.json", json.dumps(stored, indent=1) + "\n")
    return read(folder)


def read(folder: Path) -> Plan:
    """Read ``store.json`` in ``folder``.

    Raises:
        TesseraError: if there is none.
    """
    given = _read_json(folder / "store.json")
    return Plan(
        folder=folder,
        key=given["key"],
        path=given["path"],
        volume=folder / given["volume"],
        model=folder / given["model"],
        grid=Grid.of(given["shape"], given["block"], given["halo"]),
        align=Triple(*given["align"]),
        settings=Predict.model_validate(given["settings"]),
        batches=given["batches"],
    )


def _check_blocks(settings: Predict, facts: Facts) -> None:
    if any(b % a for b, a in zip(settings.block, facts.align_vox, strict=True)):
        raise TesseraError(
            f"predict.block: {tuple(settings.block)} is not a multiple of the network's stride "
            f"{facts.align_vox}; its pooling grids would differ between blocks: make it one"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise TesseraError(
            f"{path}: cannot be read ({error.strerror}); run the stage that makes it"
        ) from None
    except json.JSONDecodeError as error:
        raise TesseraError(f"{path}: is not JSON ({error}); make it again") from None
    if not isinstance(found, dict):
        raise TesseraError(f"{path}: holds no settings; make it again")
    return found

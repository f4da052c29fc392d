"""Subvolumes that overlap, each labelled by itself: what an FFN's `predict` leaves to `label`.

A block of the grid owns its write box; its *subvolume* is its read box, cut at the volume's edges.
Neighbours share ``overlap_vox`` voxels, half on either side of the face between them::

    |<-------- A's subvolume ------->|
    |        A owns          |   .   |
                     |   .   |        B owns          |
                     |<-------- B's subvolume ------->|

A folder ``predict/<model>`` holds ``store.json`` (:class:`Store`) and one file a subvolume,
``subvolumes/<z>/<y>/<x>.npz``, of

- ``labels``: uint32 (fill, z, y, x): local ids of the whole subvolume, its overlap included, 0
  where nothing was filled; one fill an order of seeds;
- ``objects``: int64 (object, 6): fill, z, y, x of the seed in the volume's voxels, moves, voxels;
  the objects of a fill in order of their ids 1, 2, ...
"""

from __future__ import annotations

import io
import json
import math
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.box import Block, Box, Grid, Triple
from tessera.volume.record import atomic_write
from tessera.volume.store import write_errors

KIND = "subvolumes"
CHUNK = 32  # the label volume's; a block is made of whole chunks


def make_grid(shape: tuple[int, int, int], subvolume: tuple[int, int, int], overlap: int) -> Grid:
    """Divide a volume evenly: as few blocks of at most about ``subvolume`` as cover it.

    Args:
        shape: the volume's (z, y, x).
        subvolume: the most that a block should own, rounded to whole chunks.
        overlap: voxels that neighbours share.
    """
    block = []
    for n, most in zip(shape, subvolume, strict=True):
        count = math.ceil(n / most)
        block.append(math.ceil(n / count / CHUNK) * CHUNK)
    return Grid.of(shape, tuple(block), (overlap // 2,) * 3)


def extent(block: Block, shape: tuple[int, int, int]) -> Box:
    """Return the box of a block's subvolume."""
    return block.read.intersect(Box.whole(shape))


@dataclass(frozen=True)
class Store:
    """The content of ``store.json``: what all batches of a fill follow.

    Attributes:
        key: hash of all that the subvolumes depend on.
        volume: path of the image volume.
        model: folder of the bundle.
        shape, voxel_um, origin_um: of the volume.
        block: write box (z, y, x); ``overlap_vox`` is shared by neighbours.
        batches: number of batches.
        classes: names of the classes; objects are of the only one.
        settings: the section ``predict``.
        kind: tells this store from one of probabilities.
    """

    key: str
    volume: str
    model: str
    shape: tuple[int, int, int]
    voxel_um: tuple[float, float, float]
    origin_um: tuple[float, float, float]
    block: tuple[int, int, int]
    overlap_vox: int
    batches: int
    classes: tuple[str, ...]
    settings: dict[str, Any]
    kind: str = KIND

    @property
    def grid(self) -> Grid:
        """The blocks."""
        return Grid.of(self.shape, self.block, (self.overlap_vox // 2,) * 3)

    def blocks(self, batch: int, of: int) -> list[Block]:
        """Return the blocks of a batch.

        Raises:
            TesseraError: if there is no such batch.
        """
        if of != self.batches or not 0 <= batch < of:
            raise TesseraError(
                f"batch {batch} of {of} does not exist, the store was laid out for {self.batches}; "
                "number them from 0, or lay it out again"
            )
        return [self.grid[n] for n in self.grid.batch(batch, of)]

    def write(self, folder: Path) -> None:
        """Write ``store.json``."""
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / "store.json", json.dumps(asdict(self), indent=1) + "\n")


def read_store(folder: Path) -> Store:
    """Read ``store.json`` of a folder.

    Raises:
        TesseraError: if it is missing, or not of subvolumes.
    """
    path = folder / "store.json"
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise TesseraError(
            f"{path}: cannot be read ({error.strerror}); run 'tessera predict fill store'"
        ) from None
    except ValueError:
        raise TesseraError(f"{path}: is not JSON; run 'tessera predict fill store'") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise TesseraError(
            f"{path}: is not of filled subvolumes; name the folder of a flood-filling network"
        )
    for name in ("shape", "voxel_um", "origin_um", "block", "classes"):
        content[name] = tuple(content[name])
    return Store(**content)


def subvolume_file(folder: Path, index: Triple) -> Path:
    """Where a block's subvolume lies."""
    z, y, x = index
    return folder / "subvolumes" / str(z) / str(y) / f"{x}.npz"


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to an npz, whole or not at all; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(buffer.getbuffer())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def load_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Read arrays of an npz.

    Raises:
        TesseraError: if it is missing or torn.
    """
    import zipfile
    import zlib

    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise TesseraError(
            f"{path}: cannot be read ({type(error).__name__}); run 'tessera verify' and the "
            "workflow again"
        ) from None

"""The coarser levels of a volume: each halves the one before, block by block, restartable.

A coarse voxel is the mean of the eight (fewer at an odd edge) that it covers; of labels it is the
one that most of them have. The records lie inside the volume, beside its levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tessera.volume.box import Block, Box, Grid
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import make_key
from tessera.volume.store import Volume

Kind = Literal["mean", "label"]


def halve(data: np.ndarray, kind: Kind) -> np.ndarray:
    """Return an array of half the size, rounded up, along the last three axes.

    Args:
        data: (channel,) z, y, x.
        kind: ``mean`` (rounded to even for integers), or ``label``: the most frequent value, the
            smallest of equally frequent ones.
    """
    lead = data.ndim - 3
    # Repeating an odd last voxel gives it the weight of both: the mean is of real voxels alone.
    data = np.pad(data, [(0, 0)] * lead + [(0, n % 2) for n in data.shape[lead:]], mode="edge")
    z, y, x = (n // 2 for n in data.shape[lead:])
    split = data.reshape(*data.shape[:lead], z, 2, y, 2, x, 2)
    eight = np.moveaxis(split, (-5, -3, -1), (-3, -2, -1)).reshape(*data.shape[:lead], z, y, x, 8)
    if kind == "mean":
        mean = eight.mean(axis=-1, dtype=np.float64)
        return (np.rint(mean) if data.dtype.kind in "iu" else mean).astype(data.dtype)
    ordered = np.sort(eight, axis=-1)
    votes = np.zeros(ordered.shape, np.uint8)
    for k in range(8):
        votes += ordered == ordered[..., k : k + 1]
    most = votes.argmax(axis=-1)[..., None]
    return np.take_along_axis(ordered, most, axis=-1)[..., 0]


def build_pyramid(path: Path, kind: Kind, digest: str, comm: Any | None = None) -> str:
    """Fill all levels of a volume from its finest.

    Args:
        path: the volume; its metadata and empty levels are there.
        kind: see :func:`halve`.
        digest: of level 0; levels that were made from another are made again.
        comm: MPI communicator whose ranks share the work, or None.

    Returns:
        digest of the coarsest level.
    """
    path = Path(path)
    for level in range(1, Volume(path).levels):
        fine, coarse = Volume(path, level - 1), Volume(path, level)
        grid = Grid.of(coarse.shape, coarse.shard)
        key = make_key(level=level, kind=kind, below=digest)
        record = path / "records" / f"level{level}.json"
        digest = run_batch(_task(fine, coarse, kind), list(grid), record, key, comm).digest()
    return digest


def _task(fine: Volume, coarse: Volume, kind: Kind) -> Task:
    def read(block: Block) -> np.ndarray:
        twice = Box.of(
            tuple(2 * a for a in block.write.start), tuple(2 * b for b in block.write.stop)
        )
        return fine.read(twice.intersect(Box.whole(fine.shape)))

    def write(block: Block, data: np.ndarray) -> None:
        coarse.write(block.write, data)

    return Task(
        read,
        lambda block, data: halve(data, kind),
        write,
        lambda block: coarse.shard_files(block.write),
        f"level {coarse.level}, blocks",
    )

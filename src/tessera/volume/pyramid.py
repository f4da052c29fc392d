"""The coarser levels of a volume: each halves the one before, block by block, restartable.

A coarse voxel is the mean of the eight (fewer at an odd edge) that it covers; of labels it is the
one that most of them have. Within a block, dask shares slabs out to the cores of the job. The
records lie inside the volume, beside its levels.
"""

from __future__ import annotations

import os
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
    if kind == "mean":
        # Sums of pairs, in whole planes: a reduction over an axis of eight is four times slower.
        total = _pairs(_pairs(_pairs(data, -1), -2), -3) / 8
        return (np.rint(total) if data.dtype.kind in "iu" else total).astype(data.dtype)
    split = data.reshape(*data.shape[:lead], z, 2, y, 2, x, 2)
    eight = np.moveaxis(split, (-5, -3, -1), (-3, -2, -1)).reshape(*data.shape[:lead], z, y, x, 8)
    ordered = np.sort(eight, axis=-1)
    votes = np.zeros(ordered.shape, np.uint8)
    for k in range(8):
        votes += ordered == ordered[..., k : k + 1]
    most = votes.argmax(axis=-1)[..., None]
    return np.take_along_axis(ordered, most, axis=-1)[..., 0]


def _pairs(data: np.ndarray, axis: int) -> np.ndarray:
    """Sums of neighbours along an axis, as doubles."""
    even: list[slice] = [slice(None)] * data.ndim
    odd = list(even)
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    return np.add(data[tuple(even)], data[tuple(odd)], dtype=np.float64)


def halve_in_parts(data: np.ndarray, kind: Kind, threads: int) -> np.ndarray:
    """As :func:`halve`, in slabs that dask does side by side in the job's own cores."""
    import dask

    planes = data.shape[-3]
    parts = min(threads, planes // 2)
    if parts < 2:
        return halve(data, kind)
    ends = [planes * n // parts // 2 * 2 for n in range(parts)] + [planes]
    slabs = [
        dask.delayed(halve)(data[..., a:b, :, :], kind)
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    done = dask.compute(*slabs, scheduler="threads", num_workers=threads)
    return np.concatenate(done, axis=-3)


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
    threads = max(1, len(os.sched_getaffinity(0)) // (1 if comm is None else comm.Get_size()))
    for level in range(1, Volume(path).levels):
        fine, coarse = Volume(path, level - 1), Volume(path, level)
        grid = Grid.of(coarse.shape, coarse.shard)
        key = make_key(level=level, kind=kind, below=digest)
        record = path / "records" / f"level{level}.json"
        digest = run_batch(
            _task(fine, coarse, kind, threads), list(grid), record, key, comm
        ).digest()
    return digest


def _task(fine: Volume, coarse: Volume, kind: Kind, threads: int) -> Task:
    def read(block: Block) -> np.ndarray:
        twice = Box.of(
            tuple(2 * a for a in block.write.start), tuple(2 * b for b in block.write.stop)
        )
        return fine.read(twice.intersect(Box.whole(fine.shape)))

    def write(block: Block, data: np.ndarray) -> None:
        coarse.write(block.write, data)

    return Task(
        read,
        lambda block, data: halve_in_parts(data, kind, threads),
        write,
        lambda block: coarse.shard_files(block.write),
        f"level {coarse.level}, blocks",
    )

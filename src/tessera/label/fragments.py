"""Fragments: the connected components of one block, and what the merge must know of them.

A block is labelled in its *extended box*: its write box and one voxel more at the high end of each
axis where there is a neighbour. Two voxels that touch lie both in the extended box of one block
(along each axis, the block of the lower one), whatever the connectivity; so what touches across
faces, edges or corners is one fragment of some block, and it only remains to say which fragments
of neighbours are the same. They are the same where they hold the same voxel: the extended box of
block C overlaps the write box of its neighbour D = C + d in a plane, line or voxel::

        C . . . | D          d in {0, 1}^3 without (0, 0, 0)
        C . . . | D          C's ids there: ``high[d]`` of C
        --------+--          D's ids there: ``low[d]`` of D
        E . . . | F

Both list the foreground voxels of the overlap in z, y, x order, hence voxel by voxel.

What a block has found is packed into its entry of the batch's record, so that there is no file a
block: the rows of ``objects``, then all lists of ids, one after the other (low then high, in the
order of :data:`OFFSETS`), whose lengths stand beside them.
"""

from __future__ import annotations

import base64
import itertools
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.volume.box import Block, Box, Triple

OFFSETS = tuple(Triple(*d) for d in itertools.product((0, 1), repeat=3) if any(d))

# Columns of `objects`. A fragment that lies wholly beyond the write box has no voxels; then FIRST
# and START are larger, and STOP smaller, than any other's, so that min and max pass over them.
VOXELS, FIRST, SUM, START, STOP = 0, 1, slice(2, 5), slice(5, 8), slice(8, 11)
COLUMNS = 11
_FAR = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Fragments:
    """What one block tells the merge.

    Attributes:
        objects: int64 (fragment, 11), fragment i + 1 in row i, of the voxels in the write box:
            number of voxels, first voxel (its z, y, x index in the whole volume, flattened),
            sums of z, y, x, start and stop of the bounding box, all in the volume's coordinates.
        low: for each of :data:`OFFSETS`, uint32 ids of the foreground on the block's low side.
        high: the same on the high side, beyond the write box.
    """

    objects: np.ndarray
    low: tuple[np.ndarray, ...]
    high: tuple[np.ndarray, ...]


def extended_box(block: Block, shape: Triple) -> Box:
    """Return the write box and one voxel more at the high ends that are not the volume's."""
    stop = tuple(min(b + 1, n) for b, n in zip(block.write.stop, shape, strict=True))
    return Box.of(block.write.start, stop)


def label_box(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """Label the components of a boolean (z, y, x) array; returns uint32 ids and their number.

    Two-pass labelling of Wu 2005 (doi:10.1117/12.596105) as in cc3d (Silversmith 2021,
    doi:10.5281/zenodo.5719535).
    """
    import cc3d

    if not mask.any():
        return np.zeros(mask.shape, np.uint32), 0
    ids, count = cc3d.connected_components(  # type: ignore[call-overload]
        mask.view(np.uint8), connectivity=connectivity, return_N=True, out_dtype=np.uint32
    )
    return ids, int(count)


def describe(ids: np.ndarray, count: int, block: Block, shape: Triple) -> Fragments:
    """Measure the fragments of a block.

    Args:
        ids: uint32 (z, y, x), labels of the block's extended box.
        count: their number.
        block: the block; ``shape``: the volume's size.
    """
    size = block.write.shape
    low, high = [], []
    for offset in OFFSETS:
        near = tuple(slice(0, 1) if d else slice(0, n) for d, n in zip(offset, size, strict=True))
        far = tuple(
            slice(n, n + 1) if d else slice(0, n) for d, n in zip(offset, size, strict=True)
        )
        before = all(a > 0 for a, d in zip(block.write.start, offset, strict=True) if d)
        low.append(_foreground(ids[near]) if before else np.zeros(0, np.uint32))
        high.append(_foreground(ids[far]))
    z, y, x = size
    return Fragments(_measure(ids[:z, :y, :x], count, block, shape), tuple(low), tuple(high))


def _foreground(ids: np.ndarray) -> np.ndarray:
    return ids[ids != 0]


def _measure(ids: np.ndarray, count: int, block: Block, shape: Triple) -> np.ndarray:
    """Sums over the write box; see :class:`Fragments`. All in whole numbers, so exact.

    It works on runs of one id along x, of which there are far fewer than voxels.
    """
    objects = np.zeros((count + 1, COLUMNS), np.int64)
    objects[:, FIRST] = _FAR
    objects[:, START] = _FAR
    z, y, x, length, of = _runs(ids)
    z, y, x = (a + start for a, start in zip((z, y, x), block.write.start, strict=True))
    first = (z * shape.y + y) * shape.x + x
    voxels = _sum(of, length, count)
    objects[:, VOXELS] = voxels
    # Of several values for one place numpy keeps the last: backwards, that is the first voxel.
    objects[of[::-1], FIRST] = first[::-1]
    # A run of n voxels from x on sums up to n x + n (n - 1) / 2.
    along = length * x + length * (length - 1) // 2
    for axis, (sums, low, high) in enumerate(
        ((length * z, z, z + 1), (length * y, y, y + 1), (along, x, x + length))
    ):
        objects[:, SUM][:, axis] = _sum(of, sums, count)
        np.minimum.at(objects[:, START][:, axis], of, low)
        np.maximum.at(objects[:, STOP][:, axis], of, high)
    return objects[1:]


def _sum(of: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros(count + 1, np.int64)
    np.add.at(total, of, values)
    return total


def _runs(ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return z, y, x of the first voxel, length and id of each run of one id, in order."""
    # A column of background ends each row's last run.
    padded = np.zeros((*ids.shape[:2], ids.shape[2] + 1), ids.dtype)
    padded[..., :-1] = ids
    flat = padded.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    length = np.diff(starts, append=flat.size)
    kept = flat[starts] != 0
    starts, length = starts[kept], length[kept]
    row, x = np.divmod(starts, padded.shape[2])
    z, y = np.divmod(row, padded.shape[1])
    return z, y, x, length, flat[starts]


def to_entry(fragments: Fragments) -> dict[str, Any]:
    """Return a block's fragments as they stand in its record's entry: plain JSON types."""
    lists = fragments.low + fragments.high
    raw = fragments.objects.astype("<i8").tobytes() + np.concatenate(lists).astype("<u4").tobytes()
    return {
        "fragments": len(fragments.objects),
        "lengths": [len(ids) for ids in lists],
        "packed": base64.b64encode(zlib.compress(raw, 1)).decode(),
    }


def from_entry(entry: dict[str, Any]) -> Fragments:
    """Return what :func:`to_entry` packed.

    Raises:
        ValueError: if it is no such entry, or not as it was written.
    """
    try:
        raw = zlib.decompress(base64.b64decode(entry["packed"], validate=True))
        count, lengths = int(entry["fragments"]), [int(n) for n in entry["lengths"]]
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"no packed fragments ({type(error).__name__})") from None
    rows = count * COLUMNS * 8
    if len(lengths) != 2 * len(OFFSETS) or len(raw) != rows + 4 * sum(lengths):
        raise ValueError("packed fragments of another length")
    objects = np.frombuffer(raw[:rows], "<i8").reshape(count, COLUMNS)
    lists = tuple(np.split(np.frombuffer(raw[rows:], "<u4"), np.cumsum(lengths)[:-1]))
    return Fragments(objects, lists[: len(OFFSETS)], lists[len(OFFSETS) :])

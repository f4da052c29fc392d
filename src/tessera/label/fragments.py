"""Fragments: the connected components of one block, and what the merge must know of them.

A block is labelled by itself, in its write box, so that it reads no voxel of its neighbours. What
it leaves for the merge are sums over each fragment, and the ids on the block's six faces: whatever
touches a fragment from another block lies behind one of them (see :mod:`.touch`).

What a block has found is packed into its entry of the batch's record, so that there is no file a
block: the rows of ``objects``, then one bit for each voxel of the faces, set where it is
foreground, then the ids of those that are.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.volume.box import Block, Triple

# Columns of `objects`. An id without voxels (of subvolumes, which reach beyond what they own) has
# FIRST and START larger, and STOP smaller, than any other's, so that min and max pass over them.
VOXELS, FIRST, SUM, START, STOP = 0, 1, slice(2, 5), slice(5, 8), slice(8, 11)
COLUMNS = 11
_FAR = np.iinfo(np.int64).max

Faces = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Fragments:
    """What one block tells the merge.

    Attributes:
        objects: int64 (fragment, 11), fragment i + 1 in row i: number of voxels, first voxel (its
            z, y, x index in the whole volume, flattened), sums of z, y, x, start and stop of the
            bounding box, all in the volume's coordinates.
        faces: uint32 ids on the block's faces: lowest and highest plane along z (y, x), along y
            (z, x) and along x (z, y).
    """

    objects: np.ndarray
    faces: Faces


def label_box(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """Label the components of a boolean (z, y, x) array; returns uint32 ids and their number.

    Two-pass labelling of Wu 2005 (doi:10.1117/12.596105) as in cc3d (Silversmith 2021,
    doi:10.5281/zenodo.5719535).
    """
    import cc3d

    if not mask.any():
        return np.zeros(mask.shape, np.uint32), 0
    ids, count = cc3d.connected_components(  # type: ignore[call-overload]
        mask.view(np.uint8),
        connectivity=connectivity,
        return_N=True,
        out_dtype=np.uint32,
    )
    return ids, int(count)


def describe(ids: np.ndarray, count: int, block: Block, shape: Triple) -> Fragments:
    """Measure the fragments of a block.

    Args:
        ids: uint32 (z, y, x), labels of the block's write box.
        count: their number.
        block: the block; ``shape``: the volume's size.
    """
    faces = tuple(ids.take(end, axis) for axis in range(3) for end in (0, -1))
    return Fragments(measure(ids, count, block, shape), faces)


def measure(ids: np.ndarray, count: int, block: Block, shape: Triple) -> np.ndarray:
    """Return :attr:`Fragments.objects` of a write box. All in whole numbers, so exact.

    It works on runs of one id along x, of which there are far fewer than voxels.
    """
    objects = np.zeros((count + 1, COLUMNS), np.int64)
    objects[:, FIRST] = _FAR
    objects[:, START] = _FAR
    z, y, x, length, of = _runs(ids)
    z, y, x = (a + start for a, start in zip((z, y, x), block.write.start, strict=True))
    first = (z * shape.y + y) * shape.x + x
    objects[:, VOXELS] = _sum(of, length, count)
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
    flat = ids.ravel()
    begins = np.empty(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: ids.shape[2]] = True  # a row ends the runs of the one before
    starts = np.flatnonzero(begins)
    length = np.diff(starts, append=flat.size)
    kept = flat[starts] != 0
    starts, length = starts[kept], length[kept]
    row, x = np.divmod(starts, ids.shape[2])
    z, y = np.divmod(row, ids.shape[1])
    return z, y, x, length, flat[starts]


def to_entry(fragments: Fragments) -> dict[str, Any]:
    """Return a block's fragments as they stand in its record's entry: plain JSON types."""
    ids = np.concatenate([face.ravel() for face in fragments.faces])
    there = ids != 0
    parts = (fragments.objects.astype("<i8"), np.packbits(there), ids[there].astype("<u4"))
    raw = b"".join(part.tobytes() for part in parts)
    return {
        "fragments": len(fragments.objects),
        "packed": base64.b64encode(zlib.compress(raw, 1)).decode(),
    }


def from_entry(entry: dict[str, Any], size: tuple[int, int, int]) -> Fragments:
    """Return what :func:`to_entry` packed of a block of ``size`` (z, y, x) voxels.

    Raises:
        ValueError: if it is no such entry, or not as it was written.
    """
    try:
        raw = zlib.decompress(base64.b64decode(entry["packed"], validate=True))
        count = int(entry["fragments"])
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"no packed fragments ({type(error).__name__})") from None
    shapes = [size[:axis] + size[axis + 1 :] for axis in range(3) for _ in range(2)]
    ends = np.cumsum([a * b for a, b in shapes])
    rows = count * COLUMNS * 8
    listed = rows + -(-int(ends[-1]) // 8)
    if len(raw) < listed:
        raise ValueError("packed fragments of another length")
    bits = np.frombuffer(raw[rows:listed], np.uint8)
    there = np.unpackbits(bits, count=int(ends[-1])).view(bool)
    if len(raw) != listed + 4 * np.count_nonzero(there):
        raise ValueError("packed fragments of another length")
    ids = np.zeros(len(there), np.uint32)
    ids[there] = np.frombuffer(raw[listed:], "<u4")
    faces = zip(np.split(ids, ends[:-1]), shapes, strict=True)
    objects = np.frombuffer(raw[:rows], "<i8").reshape(count, COLUMNS)
    return Fragments(objects, tuple(face.reshape(shape) for face, shape in faces))

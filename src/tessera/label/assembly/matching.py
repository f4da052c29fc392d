"""Which objects of two overlapping subvolumes are the same: those that agree on the voxels.

Both label the same voxels near the face between what they own. Within that slab, each object is
taken piece by piece (connected component), for an object may leave the slab and come back. A piece
of one and a piece of the other are the same if *each* holds more than a given share, above one
half, of the other. So a piece has one partner at most, and where one side joins what the other
keeps apart, the parts stay apart: at worst one of them finds its partner.
"""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Block, Box


def shared_slab(block: Block, axis: int, overlap: int, shape: tuple[int, int, int]) -> Box:
    """Return the box in which a block and its upper neighbour along ``axis`` are compared.

    A quarter of the overlap on either side of the face: nearer to its own end a subvolume is less
    reliable, for no field of view was centred there.
    """
    start, stop = list(block.write.start), list(block.write.stop)
    face = block.write.stop[axis]
    reach = max(1, overlap // 4)
    start[axis] = max(0, face - reach)
    stop[axis] = min(shape[axis], face + reach)
    return Box.of(tuple(start), tuple(stop))


def match(here: np.ndarray, there: np.ndarray, agreement: float) -> np.ndarray:
    """Match the objects of two segmentations of one box.

    Args:
        here, there: uint32 (z, y, x), 0 background.
        agreement: share of each piece that the other must hold, more than one half.

    Returns:
        int64 (match, 3), sorted: id here, id there, voxels that the matched pieces share.
    """
    import cc3d

    if not (here.any() and there.any()):
        return np.zeros((0, 3), np.int64)
    # A label array's components: touching voxels of different ids are different pieces.
    own = cc3d.connected_components(here, connectivity=26, out_dtype=np.uint32)
    other = cc3d.connected_components(there, connectivity=26, out_dtype=np.uint32)
    own_size, other_size = np.bincount(own.ravel()), np.bincount(other.ravel())
    own_id = _id_of_piece(own, here, len(own_size))
    other_id = _id_of_piece(other, there, len(other_size))
    both = (own > 0) & (other > 0)
    pairs = own[both].astype(np.int64) * len(other_size) + other[both]
    which, voxels = np.unique(pairs, return_counts=True)
    a, b = which // len(other_size), which % len(other_size)
    same = voxels > agreement * np.maximum(own_size[a], other_size[b])
    ids, index = np.unique(
        np.stack([own_id[a[same]], other_id[b[same]]], 1), axis=0, return_inverse=True
    )
    total = np.bincount(index.ravel(), weights=voxels[same], minlength=len(ids)).astype(np.int64)
    return np.column_stack([ids, total]).astype(np.int64).reshape(-1, 3)


def _id_of_piece(pieces: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Return the id that each piece is of."""
    out = np.zeros(count, np.int64)
    out[pieces.ravel()] = ids.ravel()
    return out

"""Which objects of two overlapping subvolumes are the same: those that agree on the voxels.

Both label the same voxels near the face between what they own. Within that slab an object of one
and an object of the other are the same if *each* holds more than a given share, above one half, of
the other. So an object has one partner at most across a face, and where one side joins what the
other keeps apart, the larger part at most finds its partner: a wrong join stays in the subvolume
that made it. What is left apart (a neurite that turns back in the neighbour, say) is for
agglomeration to join, which looks at the image again.
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
        agreement: share of each object's voxels here that the other must hold, above one half.

    Returns:
        int64 (match, 3), sorted: id here, id there, voxels that they share.
    """
    own_size, other_size = np.bincount(here.ravel()), np.bincount(there.ravel())
    both = (here > 0) & (there > 0)
    pairs = here[both].astype(np.int64) * len(other_size) + there[both]
    which, voxels = np.unique(pairs, return_counts=True)
    a, b = which // len(other_size), which % len(other_size)
    same = voxels > agreement * np.maximum(own_size[a], other_size[b])
    return np.column_stack([a[same], b[same], voxels[same]]).astype(np.int64)

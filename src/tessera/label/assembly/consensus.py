"""Consensus of several segmentations of one box: voxels that all keep together, or a split.

Two voxels are in one piece of the consensus only if every segmentation has them in one object
(oversegmentation consensus, Januszewski 2018, doi:10.1038/s41592-018-0049-4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def consensus(segmentations: Sequence[np.ndarray], min_voxels: int = 1) -> np.ndarray:
    """Intersect segmentations.

    Args:
        segmentations: one or more integer arrays of one shape, 0 background.
        min_voxels: smaller pieces become background.

    Returns:
        uint32 of the same shape: 0 where any of them has background, else 1, 2, ... in the order
        of the ids of the first, then of the second, and so on. A single one comes back as it is.
    """
    joint = np.asarray(segmentations[0])
    if len(segmentations) == 1:
        return joint.astype(np.uint32, copy=False)
    for other in segmentations[1:]:
        both = (joint > 0) & (other > 0)
        stride = int(other.max(initial=0)) + 1
        pairs = joint[both].astype(np.int64) * stride + other[both].astype(np.int64)
        _, index = np.unique(pairs, return_inverse=True)
        joint = np.zeros(joint.shape, np.int64)
        joint[both] = index.ravel() + 1
    sizes = np.bincount(joint.ravel())
    keep = sizes >= min_voxels
    keep[0] = False
    ids = np.zeros(len(sizes), np.uint32)
    ids[keep] = np.arange(1, np.count_nonzero(keep) + 1, dtype=np.uint32)
    return ids[joint]

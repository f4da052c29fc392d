"""Partitions of voxels by local object mass, so that thin neurites are learned as well as thick.

The local object mass of a voxel is the share of the cube about it that its own object fills. Voxels
are put into partitions by thresholds of it, and training draws each partition equally often
(Januszewski 2018, doi:10.1038/s41592-018-0049-4, ``compute_partitions``).
"""

from __future__ import annotations

import numpy as np

THRESHOLDS = (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RADIUS = (24, 24, 24)


def local_mass(mask: np.ndarray, radius: tuple[int, int, int]) -> np.ndarray:
    """Return, for each voxel, the share of True voxels in the box of +-radius about it.

    What lies outside of the array counts as False. A summed-area table: the radius costs nothing.

    Args:
        mask: boolean (z, y, x).
        radius: half size (z, y, x) of the box, without its centre.
    """
    total = mask.astype(np.float64)
    for axis, r in enumerate(radius):
        n = total.shape[axis]
        zero = np.zeros_like(np.take(total, [0], axis))
        sums = np.concatenate([zero, np.cumsum(total, axis)], axis)
        high = np.minimum(np.arange(n) + r + 1, n)
        low = np.maximum(np.arange(n) - r, 0)
        total = np.take(sums, high, axis) - np.take(sums, low, axis)
    return total / float(np.prod([2 * r + 1 for r in radius]))


def partition(
    labels: np.ndarray,
    radius: tuple[int, int, int] = RADIUS,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> np.ndarray:
    """Put each voxel of an object into a partition.

    Args:
        labels: ids (z, y, x); 0 and less are no object.
        radius: half size of the box of the local object mass.
        thresholds: rising.

    Returns:
        uint8 (z, y, x): 0 no object; 1 + the number of thresholds that the mass reaches.
    """
    from scipy.ndimage import find_objects

    out = np.zeros(labels.shape, np.uint8)
    ids, index = np.unique(labels, return_inverse=True)
    dense = index.reshape(labels.shape) + 1
    for number, box in enumerate(find_objects(dense)):
        if ids[number] <= 0 or box is None:
            continue
        mask = dense[box] == number + 1
        mass = local_mass(mask, radius)[mask]
        out[box][mask] = 1 + np.searchsorted(thresholds, mass, side="right")
    return out

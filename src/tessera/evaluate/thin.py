"""Skeletons of true objects, where a person has labelled voxels and drawn no lines.

1. Each object is thinned to lines one voxel wide (Lee 1994, doi:10.1006/cgip.1994.1042).
2. Neighbours (26) among what is left are edges; of those that close a circle the longest go, so
   that a knot of voxels does not count as length.
"""

from __future__ import annotations

import numpy as np

from tessera.evaluate.skeletons import Skeleton

_HALF = [  # each of the 13 pairs of neighbours once
    (z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)
]


def true_skeletons(
    ids: np.ndarray,
    voxel_um: tuple[float, float, float],
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> list[Skeleton]:
    """Return a skeleton of each object that is longer than a voxel, in the order of ids.

    Args:
        ids: (z, y, x), 0 background.
        voxel_um: voxel size.
        origin_um: centre of voxel (0, 0, 0).
    """
    from scipy.ndimage import find_objects

    known, index = np.unique(ids, return_inverse=True)
    dense = index.reshape(ids.shape) + int(known[0] != 0)
    found = []
    for number, box in enumerate(find_objects(dense), 1):
        if box is None:
            continue
        lines = _thin(dense[box] == number)
        start = np.array([s.start for s in box])
        made = _graph(lines, start, np.array(voxel_um), np.array(origin_um))
        if len(made.edges):
            found.append(made)
    return found


def _thin(mask: np.ndarray) -> np.ndarray:
    """Thin an object; one that vanishes, as bars of even width do, is thinned less one layer."""
    from skimage.morphology import skeletonize

    lines = skeletonize(mask)
    for axis in range(3):
        if lines.any():
            break
        less = mask & np.roll(mask, 1, axis)
        less[(slice(None),) * axis + (0,)] = False
        lines = skeletonize(less)
    return np.asarray(lines, bool)


def _graph(lines: np.ndarray, start: np.ndarray, voxel: np.ndarray, origin: np.ndarray) -> Skeleton:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    at = np.argwhere(lines)
    where = np.full(np.array(lines.shape) + 2, -1, np.int64)
    where[tuple((at + 1).T)] = np.arange(len(at))
    ends, lengths = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for step in _HALF:
        other = where[tuple((at + 1 + step).T)]
        there = other >= 0
        ends.append(np.column_stack([np.flatnonzero(there), other[there]]))
        lengths.append(np.full(np.count_nonzero(there), np.linalg.norm(voxel * step)))
    a, b = np.concatenate(ends).T
    graph = coo_array((np.concatenate(lengths), (a, b)), shape=(len(at), len(at)))
    tree = minimum_spanning_tree(graph).tocoo()
    edges = np.column_stack([tree.row, tree.col]).astype(np.int64)
    return Skeleton((at + start) * voxel + origin, edges)

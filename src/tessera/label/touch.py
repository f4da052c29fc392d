"""Which fragments of two neighbouring blocks are one: those that hold voxels that touch.

Two voxels of different blocks that touch lie on the blocks' faces towards each other: on whole
faces, on edges or on a corner, depending on where the blocks lie. These are laid side by side as
they lie in the volume and labelled once more::

    C . . . | D . .          direction d from C to D: 0 where they are side by side,
    c . . c | d . .          1 where D is beyond, -1 where it is before
    --------+------
    E . . . | F . .          C and F: an edge (or a corner) of each, d = (1, 1) here

so one rule holds for all directions and connectivities: the labelling's own.
"""

from __future__ import annotations

import itertools

import numpy as np

from tessera.label.fragments import Faces, label_box
from tessera.volume.box import Triple

# Directions to the 13 blocks that come later in z, y, x order.
LATER = tuple(Triple(*d) for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0))

_AXES_CROSSED = {6: 1, 18: 2, 26: 3}  # how many coordinates of two neighbours differ at most


def directions(connectivity: int) -> tuple[Triple, ...]:
    """Return the directions of :data:`LATER` in which voxels of two blocks can touch."""
    most = _AXES_CROSSED[connectivity]
    return tuple(d for d in LATER if sum(map(abs, d)) <= most)


def touching(
    here: Faces, there: Faces, direction: tuple[int, int, int], connectivity: int
) -> np.ndarray:
    """Find the fragments of a block that touch fragments of a neighbour.

    Args:
        here: the block's faces, see :class:`tessera.label.fragments.Fragments`.
        there: the neighbour's.
        direction: where the neighbour is, one of :data:`LATER`.
        connectivity: 6, 18 or 26.

    Returns:
        int64 (pairs, 2): id here, id there. Fragments that touch the same ones may be paired by
        way of these alone.
    """
    own = _towards(here, direction)
    other = _towards(there, tuple(-d for d in direction))
    if not own.any() or not other.any():
        return np.zeros((0, 2), np.int64)
    size = [2 if d else n for d, n in zip(direction, own.shape, strict=True)]
    both = np.zeros(size, bool)
    # The one that comes first along an axis has the place 0 there, the other 1.
    at_own = tuple(slice(int(d < 0), int(d < 0) + 1) if d else slice(None) for d in direction)
    at_other = tuple(slice(int(d > 0), int(d > 0) + 1) if d else slice(None) for d in direction)
    both[at_own], both[at_other] = own != 0, other != 0
    groups, _ = label_box(both, connectivity)
    first, ids_first = _distinct(groups[at_own], own)
    second, ids_second = _distinct(groups[at_other], other)
    # Voxels of one block in one group are of one fragment already, but for those that another
    # block's join: each of the one block's meets the first of the other's, and the other way round.
    return np.concatenate(
        [
            _meet(first, ids_first, second, ids_second),
            _meet(second, ids_second, first, ids_first)[:, ::-1],
        ]
    )


def _towards(faces: Faces, direction: tuple[int, ...]) -> np.ndarray:
    """The part of a block's faces on the side of ``direction``: uint32, one thick where d != 0."""
    axis = next(a for a, d in enumerate(direction) if d)
    part = np.expand_dims(faces[2 * axis + (direction[axis] > 0)], axis)
    for other in range(axis + 1, 3):
        if direction[other]:
            end = part.shape[other] - 1 if direction[other] > 0 else 0
            part = part.take([end], other)
    return part


def _distinct(groups: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (group, id) of the foreground, sorted."""
    there = ids != 0
    both = np.unique(groups[there].astype(np.uint64) << np.uint64(32) | ids[there])
    return both >> np.uint64(32), (both & np.uint64(2**32 - 1)).astype(np.int64)


def _meet(
    groups: np.ndarray, ids: np.ndarray, others: np.ndarray, ids_of_others: np.ndarray
) -> np.ndarray:
    """Pair each id with the first of the others of its group, where there is one."""
    if not len(others):
        return np.zeros((0, 2), np.int64)
    at = np.minimum(np.searchsorted(others, groups), len(others) - 1)
    found = others[at] == groups
    return np.stack([ids[found], ids_of_others[at[found]]], 1)

"""What lies beyond a volume's edge: its mirror image, without repeating the edge voxel."""

from __future__ import annotations

import numpy as np

from tessera.volume.box import Box
from tessera.volume.shard import Slices


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Reflect indices into ``0 .. size - 1`` without repeating the edge: -1 becomes 1."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)


def mirrors_itself(box: Box, inside: Box) -> bool:
    """True if all that a box mirrors lies in the part of it that is ``inside`` the volume."""
    sides = zip(inside.start, inside.stop, box.start, box.stop, strict=True)
    return all(max(a - low, high - b) < b - a for a, b, low, high in sides)


def fill_edges(data: np.ndarray, known: Slices) -> None:
    """Fill what lies about the ``known`` part of (..., z, y, x), which mirrors itself, in place.

    Whole rows and planes are moved, once: several times as fast as to pick voxels by index.
    """
    z, y, _ = known
    every = slice(None)
    for axis, part in ((-1, (z, y, every)), (-2, (z, every, every)), (-3, (every,) * 3)):
        lines = np.moveaxis(data[(..., *part)], axis, 0)
        first, end = known[axis].start, known[axis].stop
        beyond = len(lines) - end
        lines[:first] = lines[first + 1 : 2 * first + 1][::-1]
        lines[end:] = lines[end - 1 - beyond : end - 1][::-1]

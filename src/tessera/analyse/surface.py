"""Surfaces of objects, for pictures: marching cubes on each object's own box.

A large object is first averaged down to a few dozen cells a side, read part by part, so memory is
bounded by one part and one small grid, whatever the object's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.analyse.moments import Objects
from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_PART = 128  # voxels a side that are read at a time
_SOFT = 0.6  # cells; blurs away the staircase of voxels
MOST_OBJECTS = 600  # a picture shows no more than this; the largest are taken
_VERTICES = 90_000  # what a browser turns smoothly and a page can carry


@dataclass(frozen=True)
class Surface:
    """Triangles of one object: vertices (n, 3) in um (z, y, x), faces (m, 3)."""

    vertices_um: np.ndarray
    faces: np.ndarray


def cells_a_side(objects: int) -> int:
    """Return how many cells an object may span, so that all surfaces together stay light.

    A closed surface that spans c cells has about 5 c^2 vertices.
    """
    return int(np.clip(np.sqrt(_VERTICES / (5 * max(objects, 1))), 7, 28))


def surface_of(labels: Volume, objects: Objects, row: int, cells: int) -> Surface:
    """Return the surface of one object.

    Args:
        labels: global ids.
        objects: the list of them.
        row: which of the list.
        cells: how many cells its longest side may span.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.measure import marching_cubes

    box = Box.of(tuple(objects.start[row]), tuple(objects.stop[row]))
    step = max(1, -(-max(box.shape) // cells))
    filled = np.pad(_occupancy(labels, int(objects.id[row]), box, step), 2)
    soft = gaussian_filter(filled, _SOFT, mode="constant")
    level = _level(soft, float(filled.sum()))
    vertices, faces, _, _ = marching_cubes(soft, level, allow_degenerate=False)
    # A cell's centre lies in the middle of the step^3 voxels that it averages.
    vox = (vertices - 2) * step + (step - 1) / 2 + np.array(box.start)
    um = vox * np.array(labels.voxel_um) + np.array(labels.origin_um)
    return Surface(um.astype(np.float32), faces.astype(np.int32))


def _level(soft: np.ndarray, cells: float) -> float:
    """Return the level above which there are as many cells as the object fills.

    Half of the maximum would shrink what is thin against the blur; this keeps the volume.
    """
    down = np.sort(soft, axis=None)[::-1]
    inside = max(1, round(cells))
    return float(down[inside - 1] + down[inside]) / 2


def _occupancy(labels: Volume, identity: int, box: Box, step: int) -> np.ndarray:
    """Which share of each cell of ``step``^3 voxels is the object, float32."""
    shape = tuple(-(-n // step) for n in box.shape)
    out = np.zeros(shape, np.float32)
    side = max(1, _PART // step)
    for part in Grid.of(shape, (side, side, side)):
        wanted = Box.of(
            tuple(s + step * c for s, c in zip(box.start, part.write.start, strict=True)),
            tuple(s + step * c for s, c in zip(box.start, part.write.stop, strict=True)),
        )
        inside = wanted.intersect(box)
        mask = np.zeros(wanted.shape, np.float32)
        mask[inside.inside(wanted)] = labels.read(inside) == identity
        z, y, x = part.write.shape
        out[part.write.slices] = mask.reshape(z, step, y, step, x, step).mean((1, 3, 5))
    return out


def surfaces(labels: Volume, objects: Objects) -> dict[str, np.ndarray]:
    """Return the surfaces of the largest objects as arrays that fit one ``.npz``.

    Returns:
        ``id`` (n,), ``vertices_um`` (v, 3) float32 (z, y, x), ``faces`` (f, 3) int32 counted
        within an object, ``vertex_start`` and ``face_start`` (n + 1,).
    """
    largest = np.argsort(-objects.voxels, kind="stable")[:MOST_OBJECTS]
    chosen = np.sort(largest)
    cells = cells_a_side(len(chosen))
    found = [surface_of(labels, objects, int(row), cells) for row in chosen]
    vertices = [s.vertices_um for s in found]
    faces = [s.faces for s in found]
    return {
        "id": objects.id[chosen],
        "vertices_um": np.concatenate([np.zeros((0, 3), np.float32), *vertices]),
        "faces": np.concatenate([np.zeros((0, 3), np.int32), *faces]),
        "vertex_start": np.cumsum([0, *map(len, vertices)]),
        "face_start": np.cumsum([0, *map(len, faces)]),
    }

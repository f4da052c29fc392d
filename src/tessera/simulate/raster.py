"""The specimen's truth as voxels, block by block: classes, soma ids, attenuation.

A voxel belongs to the shape that its centre lies in; attenuation is averaged over sub-voxels.
"""

from __future__ import annotations

import itertools

import numpy as np

from tessera.simulate.specimen import (
    BODY_PER_CM,
    FIBRE_PER_CM,
    SOMA_PER_CM,
    VESSEL_PER_CM,
    Specimen,
)
from tessera.volume.box import Box

BACKGROUND, SOMA, VESSEL = 0, 1, 2
_SUB = (-0.25, 0.25)


def raster(
    specimen: Specimen, box: Box, origin_vox: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes (uint8), soma ids (uint32) and attenuation (float32, 1/cm) of a box.

    Args:
        specimen: the shapes.
        box: voxels of the fused frame (z, y, x).
        origin_vox: place of voxel (0, 0, 0) in the specimen (z, y, x), in voxels.
    """
    start = np.array(origin_vox) + np.array(box.start)
    shape = tuple(box.shape)
    classes = np.zeros(shape, np.uint8)
    ids = np.zeros(shape, np.uint32)
    density = np.zeros(shape, np.float32)
    z, y, x = (start[k] + np.arange(shape[k]) for k in range(3))
    grid = [z[:, None, None], y[None, :, None], x[None, None, :]]
    density += BODY_PER_CM * (
        sum(((g - c) / a) ** 2 for g, c, a in zip(grid, *specimen.body, strict=True)) <= 1
    )
    for *centre, sigma, value in specimen.blobs:
        parts = [
            np.exp(-((g - c) ** 2) / (2 * sigma**2)) for g, c in zip(grid, centre, strict=True)
        ]
        density += (value * parts[0] * parts[1] * parts[2]).astype(np.float32)

    for k, centre in enumerate(specimen.somas):
        part = _near(
            centre - specimen.soma_radius[k], centre + specimen.soma_radius[k], start, shape
        )
        if part is None:
            continue
        inside, share = _soma_cover(specimen, k, part, start)
        classes[part][inside] = SOMA
        ids[part][inside] = k + 1
        density[part] += SOMA_PER_CM * share
    for chain in np.unique(specimen.chain_of):
        members = np.flatnonzero(specimen.chain_of == chain)
        covered = _chain_cover(specimen.chains[members], start, shape)
        if covered is None:
            continue
        part, inside, share = covered
        vessel = bool(specimen.vessel[members[0]])
        if vessel:
            classes[part][inside] = VESSEL
        density[part] += (VESSEL_PER_CM if vessel else FIBRE_PER_CM) * share
    return classes, ids, density


def _near(
    low: np.ndarray, high: np.ndarray, start: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, ...] | None:
    """Part of the box that a shape between two corners can touch."""
    a = np.maximum(np.floor(low - start).astype(int) - 1, 0)
    b = np.minimum(np.ceil(high - start).astype(int) + 2, shape)
    return tuple(slice(i, j) for i, j in zip(a, b, strict=True)) if np.all(a < b) else None


def _sub_axes(part: tuple[slice, ...], start: np.ndarray) -> list[list[np.ndarray]]:
    """Coordinates (z, y, x) of a part's voxel centres, then of its eight sub-voxels."""
    axes = [start[k] + np.arange(part[k].start, part[k].stop) for k in range(3)]
    shifts = [(0.0, 0.0, 0.0), *itertools.product(_SUB, repeat=3)]
    return [
        [
            axes[0][:, None, None] + dz,
            axes[1][None, :, None] + dy,
            axes[2][None, None, :] + dx,
        ]
        for dz, dy, dx in shifts
    ]


def _soma_cover(
    specimen: Specimen, k: int, part: tuple[slice, ...], start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each voxel's centre is inside the soma, and which share of its sub-voxels."""
    centre, *subs = [_in_soma(specimen, k, p) for p in _sub_axes(part, start)]
    return centre, np.asarray(np.mean(subs, axis=0, dtype=np.float32))


def _chain_cover(
    capsules: np.ndarray, start: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray] | None:
    """The same for a chain, whose capsules are looked at where each of them can reach."""
    radius = capsules[0, 6]
    ends = np.concatenate([capsules[:, :3], capsules[:, 3:6]])
    whole = _near(ends.min(axis=0) - radius, ends.max(axis=0) + radius, start, shape)
    if whole is None:
        return None
    hits = np.zeros((9, *(s.stop - s.start for s in whole)), bool)
    found = False
    for capsule in capsules:
        low = np.minimum(capsule[:3], capsule[3:6]) - radius
        high = np.maximum(capsule[:3], capsule[3:6]) + radius
        part = _near(low, high, start, shape)
        if part is None:
            continue
        found = True
        local = tuple(
            slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole, strict=True)
        )
        for n, points in enumerate(_sub_axes(part, start)):
            hits[n][local] |= _in_capsule(capsule, points)
    return (whole, hits[0], hits[1:].mean(axis=0, dtype=np.float32)) if found else None


def _in_soma(specimen: Specimen, k: int, p: list[np.ndarray]) -> np.ndarray:
    d = [p[n] - specimen.somas[k, n] for n in range(3)]
    m = specimen.soma_inverse[k]
    return np.asarray(
        sum((m[n, 0] * d[0] + m[n, 1] * d[1] + m[n, 2] * d[2]) ** 2 for n in range(3)) <= 1
    )


def _in_capsule(capsule: np.ndarray, p: list[np.ndarray]) -> np.ndarray:
    start, along, radius = capsule[:3], capsule[3:6] - capsule[:3], capsule[6]
    d = [p[n] - start[n] for n in range(3)]
    t = np.clip(sum(d[n] * along[n] for n in range(3)) / (along @ along), 0, 1)
    return np.asarray(sum((d[n] - t * along[n]) ** 2 for n in range(3)) <= radius**2)

"""Tiles whose truth is exact: sums of Gaussian blobs, evaluated where each tile's voxels lie.

No tile is cut out of a picture and none is interpolated, so sub-pixel places are true to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

VOXEL_UM = 2.0


@dataclass(frozen=True)
class Blobs:
    """Gaussian blobs: centres (z, y, x), widths and heights, in voxels of the lattice."""

    centres: np.ndarray
    sigmas: np.ndarray
    heights: np.ndarray

    @classmethod
    def random(cls, shape: Sequence[int], density: float = 1 / 300, seed: int = 0) -> Blobs:
        """Fill a field, and some voxels around it."""
        rng = np.random.default_rng(seed)
        size = np.array(shape) + 16
        count = int(density * size.prod())
        return cls(
            rng.uniform(0, 1, (count, 3)) * size - 8,
            rng.uniform(1.2, 3.0, count),
            rng.uniform(0.3, 1.0, count) * rng.choice([-1, 1], count),
        )

    def at(self, start: Sequence[float], shape: Sequence[int]) -> np.ndarray:
        """Values at voxels ``start + (0, 1, 2, ...)`` along each axis."""
        out = np.zeros(tuple(shape))
        axes = [s + np.arange(n) for s, n in zip(start, shape, strict=True)]
        for centre, sigma, height in zip(self.centres, self.sigmas, self.heights, strict=True):
            spans = []
            for axis, c in zip(axes, centre, strict=True):
                low, high = np.searchsorted(axis, (c - 5 * sigma, c + 5 * sigma))
                spans.append(slice(int(low), int(high)))
            if any(s.start >= s.stop for s in spans):
                continue
            z, y, x = (
                np.exp(-(((axis[s] - c) / sigma) ** 2) / 2)
                for axis, s, c in zip(axes, spans, centre, strict=True)
            )
            out[tuple(spans)] += height * z[:, None, None] * y[:, None] * x
        return out


def write_tile(
    folder: Path,
    data: np.ndarray,
    nominal: Sequence[float],
    radius_vox: float | None = None,
    voxel_um: float = VOXEL_UM,
) -> Path:
    """Write ``folder/tile.zarr`` whose first voxel lies nominally at ``nominal`` (voxels)."""
    z, y, x = (float(v) * voxel_um for v in nominal)
    layout = Layout(
        Triple(*data.shape),
        "float32",
        (voxel_um,) * 3,
        Triple(16, 32, 32),
        Triple(32, 64, 64),
        origin_um=(z, y, x),
    )
    provenance = {} if radius_vox is None else {"valid_radius_vox": radius_vox}
    volume = create_volume(folder / "tile.zarr", layout, provenance)
    volume.write(Box.whole(data.shape), data.astype(np.float32))
    return folder


@dataclass(frozen=True)
class Mosaic:
    """Tiles on disk with their true places relative to the first, in voxels."""

    folders: list[Path]
    nominal: np.ndarray
    true: np.ndarray


def make_mosaic(
    root: Path,
    blobs: Blobs,
    grid: tuple[int, int, int],
    shape: tuple[int, int, int],
    step: tuple[int, int, int],
    jitter: float = 3.0,
    noise: float = 0.05,
    seed: int = 1,
    circle: bool = False,
) -> Mosaic:
    """A grid of tiles at true places that differ from the nominal ones by up to ``jitter``."""
    rng = np.random.default_rng(seed)
    folders, nominal, true = [], [], []
    for index in np.ndindex(*grid):
        place = np.array(index, float) * step
        error = rng.uniform(-jitter, jitter, 3) if any(index) else np.zeros(3)
        data = blobs.at(place + error, shape) + rng.normal(0, noise, shape)
        name = "tile_" + "_".join(f"{a}{i}" for a, i in zip("zyx", index, strict=True))
        radius = (shape[1] - 1) / 2 if circle else None
        if circle:
            y, x = (np.arange(n) - (n - 1) / 2 for n in shape[1:])
            data[:, np.hypot(y[:, None], x) > radius] = rng.normal(0, 1)
        folders.append(write_tile(root / name, data, place, radius))
        nominal.append(place)
        true.append(place + error)
    return Mosaic(folders, np.array(nominal), np.array(true))


def position_rms(content: dict, mosaic: Mosaic) -> float:
    """RMS distance in voxels between solved and true places, the first tile as anchor."""
    solved = np.array([t["solved_vox"] for t in content["tiles"]])
    nominal = np.array([t["nominal_vox"] for t in content["tiles"]])
    error = (solved - nominal) - (mosaic.true - mosaic.nominal)
    return float(np.sqrt((error**2).sum(axis=1).mean()))

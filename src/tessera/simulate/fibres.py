"""Dense touching fibres with known ids: what neuropil asks of a segmentation, and no more.

1. Points are scattered in the (z, y) plane; each is a fibre that runs along x.
2. The plane is bent smoothly as it moves along x, so the fibres swerve, swell and thin out.
3. A voxel belongs to its nearest fibre, unless the second nearest is almost as near: that is
   membrane, one to two voxels wide, and belongs to nobody.
4. Grey values: cytoplasm of a shade of its own with a texture, dark membranes that fade here and
   there, blur and noise as of a focused ion beam microscope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from tessera.errors import TesseraError


@dataclass(frozen=True)
class Fibres:
    """A specimen of fibres.

    Attributes:
        image: uint8 (z, y, x).
        ids: uint32 (z, y, x), 0 is membrane.
    """

    image: np.ndarray
    ids: np.ndarray


def make_fibres(
    shape: tuple[int, int, int],
    seed: int,
    diameter_vox: float = 16.0,
    membrane_vox: float = 1.6,
    swerve_vox: float = 6.0,
    fading: float = 0.05,
    noise: float = 8.0,
) -> Fibres:
    """Make a volume of fibres.

    Args:
        shape: (z, y, x) in voxels.
        seed: the same seed gives the same specimen.
        diameter_vox: mean distance between neighbouring fibres.
        membrane_vox: thickness of what separates them.
        swerve_vox: spread of the bending.
        fading: share of membrane that is hardly darker than cytoplasm, 0 to 1.
        noise: spread of the noise in grey values of 0 to 255.

    Raises:
        TesseraError: if the volume is too small to hold two fibres.
    """
    random = np.random.default_rng(seed)
    margin = 3 * swerve_vox + diameter_vox
    high = np.array(shape[:2]) + 2 * margin
    count = int(high[0] * high[1] / diameter_vox**2)
    if min(shape) < 4 or count < 2:
        raise TesseraError(
            f"no fibres of {diameter_vox} voxels fit into a volume of {shape}; make it larger"
        )
    points = _spread(random, count, high, 0.6 * diameter_vox) - margin
    z, y, _ = np.indices(shape, np.float32)
    where = [
        plane + swerve_vox * _smooth(random, shape, 24.0).astype(np.float32) for plane in (z, y)
    ]
    at = np.stack([w.ravel() for w in where], -1)
    distance, nearest = cKDTree(points).query(at, k=2, workers=1)
    # The face between two cells lies where both are equally far; twice the depth inside a cell.
    gap = (distance[:, 1] - distance[:, 0]).reshape(shape)
    membrane = gap < membrane_vox
    ids = np.where(membrane, 0, nearest[:, 0].reshape(shape) + 1)

    shade = random.normal(165, 14, count + 1)
    image = shade[nearest[:, 0].reshape(shape) + 1] + 10 * _smooth(random, shape, 2.0)
    faded = _smooth(random, shape, 6.0)
    cut = np.quantile(faded, fading)
    dark = np.where(faded < cut, 35.0, 100.0)
    image = image - dark * np.exp(-((gap / membrane_vox) ** 2))
    image = ndimage.gaussian_filter(image, 0.7) + random.normal(0, noise, shape)
    _, dense = np.unique(ids, return_inverse=True)
    return Fibres(
        np.clip(np.rint(image), 0, 255).astype(np.uint8),
        dense.reshape(shape).astype(np.uint32) if (ids == 0).any() else ids.astype(np.uint32),
    )


def _spread(random: np.random.Generator, count: int, high: np.ndarray, apart: float) -> np.ndarray:
    """Scatter points that keep some distance, as far as there is room."""
    kept = np.zeros((0, 2))
    for _ in range(30):
        new = random.uniform(0, 1, (count, 2)) * high
        both = np.concatenate([kept, new])
        close = cKDTree(both).query_pairs(apart, output_type="ndarray")
        gone = np.unique(close.max(1)) if len(close) else np.zeros(0, np.int64)
        kept = np.delete(both, gone, 0)[:count]
        if len(kept) == count:
            break
    return kept


def _smooth(random: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> np.ndarray:
    """A smooth random field of mean 0 and spread 1."""
    # Drawn on a coarse grid and interpolated: the cost does not grow with sigma.
    step = max(1, int(sigma / 2))
    coarse = tuple(n // step + 4 for n in shape)
    field = ndimage.gaussian_filter(random.normal(0, 1, coarse), sigma / step)
    if step > 1:
        axes = [np.arange(n) / step + 1 for n in shape]
        grid = np.meshgrid(*axes, indexing="ij", sparse=False)
        field = ndimage.map_coordinates(field, grid, order=1)
    else:
        field = field[tuple(slice(0, n) for n in shape)]
    return np.asarray((field - field.mean()) / field.std())

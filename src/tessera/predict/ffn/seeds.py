"""Where filling begins: the voxels that lie farthest from any edge of the image.

1. edges: magnitude of the Sobel gradient, where it is above its own local mean;
2. distance of each voxel to the nearest edge;
3. its maxima, at least three voxels apart, in z, y, x order.

As ``PolicyPeaks`` of Januszewski 2018 (doi:10.1038/s41592-018-0049-4) does it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_SIGMA = 49 / 6  # voxels; over this neighbourhood an edge must be stronger than the mean
_APART = 3  # voxels between maxima
_JITTER = 1e-4  # breaks ties of the distance, always in the same way


def find_seeds(image: np.ndarray, blocked: np.ndarray | None = None) -> np.ndarray:
    """Return places to begin at.

    Args:
        image: (z, y, x), any scale.
        blocked: True where no move may go; counts as an edge.

    Returns:
        int64 (seed, 3) of z, y, x, sorted.
    """
    from skimage.feature import peak_local_max

    edges = ndimage.generic_gradient_magnitude(image.astype(np.float32), ndimage.sobel)
    mean = np.zeros(edges.shape, np.float32)
    ndimage.gaussian_filter(edges, _SIGMA, output=mean, mode="reflect")
    is_edge = edges > mean
    if blocked is not None:
        is_edge |= blocked
    if not is_edge.any():  # the distance to nothing is not defined; a flat image has no seeds
        return np.zeros((0, 3), np.int64)
    distance = ndimage.distance_transform_edt(~is_edge).astype(np.float32)
    jitter = np.random.RandomState(42).random_sample(distance.shape) * _JITTER
    peaks = peak_local_max(distance + jitter, min_distance=_APART, threshold_abs=0, threshold_rel=0)
    if blocked is not None:
        peaks = peaks[~blocked[tuple(peaks.T)]]
    order = np.lexsort(peaks.T[::-1])
    return np.asarray(peaks[order], np.int64)

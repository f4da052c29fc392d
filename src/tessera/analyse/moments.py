"""Second moments of labelled objects, block by block.

An object's shape is summed up by the ellipsoid that has its second moments: a solid ellipsoid
with semi-axes a has the variances a^2 / 5 along its axes. A voxel is a box, not a point, and adds
its own variance v^2 / 12. Memory is bounded by one block and ten numbers an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.box import Grid
from tessera.volume.store import Volume

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class Objects:
    """The objects of one class, in the order of their ids.

    Attributes:
        id: global ids, increasing, (n,).
        voxels: number of voxels, (n,).
        centroid_vox: centroid (z, y, x) in voxels; a voxel's centre is its index, (n, 3).
        start, stop: half-open box (z, y, x) in voxels, (n, 3).
    """

    id: np.ndarray
    voxels: np.ndarray
    centroid_vox: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def select(self, keep: np.ndarray) -> Objects:
        """Return the objects that a mask or an index names."""
        return Objects(
            self.id[keep],
            self.voxels[keep],
            self.centroid_vox[keep],
            self.start[keep],
            self.stop[keep],
        )


def covariances_um2(
    labels: Volume, objects: Objects, block: tuple[int, int, int] = (96, 96, 96)
) -> np.ndarray:
    """Return each object's covariance (z, y, x) in square micrometres.

    The sums are taken about each object's own centroid, so that they do not lose digits far from
    the volume's corner.

    Args:
        labels: global ids, 0 is background.
        objects: what the label stage knows of them; ids that it does not list are passed over.
        block: voxels (z, y, x) that are held in memory at a time.

    Returns:
        array (n, 3, 3).

    Raises:
        TesseraError: the volume holds another number of voxels than the list says.
    """
    sums = np.zeros((len(objects), 6))
    counts = np.zeros(len(objects), np.int64)
    for part in Grid.of(labels.shape, block):
        ids = labels.read(part.write)
        where = np.nonzero(ids)
        if not where[0].size:
            continue
        found, row = _rows(objects.id, ids[where])
        points = [
            (w[found] + start) - objects.centroid_vox[row, axis]
            for axis, (w, start) in enumerate(zip(where, part.write.start, strict=True))
        ]
        counts += np.bincount(row, minlength=len(objects))
        for column, (i, j) in enumerate(_PAIRS):
            sums[:, column] += np.bincount(row, points[i] * points[j], len(objects))
    _check(labels, objects, counts)
    return _matrices(sums / np.maximum(counts, 1)[:, None], labels.voxel_um)


def semi_axes_um(covariances: np.ndarray) -> np.ndarray:
    """Return the semi-axes, longest first, of the ellipsoids with these covariances, (n, 3)."""
    if not len(covariances):
        return np.zeros((0, 3))
    variances = np.linalg.eigvalsh(covariances)[:, ::-1]
    return np.asarray(np.sqrt(5 * np.maximum(variances, 0)))


def _rows(known: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels belong to a listed object, and to which row of the list."""
    row = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
    found = known[row] == ids if len(known) else np.zeros(ids.shape, bool)
    return found, row[found]


def _matrices(moments: np.ndarray, voxel_um: tuple[float, float, float]) -> np.ndarray:
    out = np.zeros((len(moments), 3, 3))
    for column, (i, j) in enumerate(_PAIRS):
        out[:, i, j] = out[:, j, i] = moments[:, column] * voxel_um[i] * voxel_um[j]
    out[:, range(3), range(3)] += np.square(voxel_um) / 12
    return out


def _check(labels: Volume, objects: Objects, counts: np.ndarray) -> None:
    wrong = np.flatnonzero(counts != objects.voxels)
    if len(wrong):
        first = wrong[0]
        raise TesseraError(
            f"{labels.path}: object {objects.id[first]} has {counts[first]} voxels but the list "
            f"beside it says {objects.voxels[first]}; run the label stage again"
        )

"""Objects found against true objects: one-to-one matches by the distance of centroids.

1. Truth and prediction are matched over the whole volume: as many pairs as possible within the
   match distance and, among those, the pairs whose distances add up to the least (the assignment
   problem, Kuhn 1955, doi:10.1002/nav.3800020109).
2. Only objects whose centroid lies in a test box are scored. An object that a box's face cuts
   thus counts once, whole, where its centroid lies; objects outside serve as partners alone, so
   that a pair astride a face is neither a miss nor a false alarm.
3. True objects smaller than what the label stage keeps cannot be found. They are partners too,
   but are not counted as missed.

Far-apart objects do not compete, so the assignment splits into small independent ones: exact, and
fast for 10^6 objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.volume.box import Box


@dataclass(frozen=True)
class Census:
    """Objects by id: their size and centroid.

    Attributes:
        id: (n,).
        voxels: (n,).
        centroid_vox: (z, y, x), a voxel's centre being its index, (n, 3).
    """

    id: np.ndarray
    voxels: np.ndarray
    centroid_vox: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def empty(cls) -> Census:
        """No objects."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))


@dataclass(frozen=True)
class Detection:
    """Who was matched with whom, and who is scored.

    Attributes:
        partner_of_truth: row of the predicted object matched with each true one, or -1.
        partner_of_found: row of the true object matched with each predicted one, or -1.
        distance_um: of each true object to its partner; NaN without one.
        true_counts: which true objects are scored.
        found_counts: which predicted objects are scored.
        within_um: the match distance.
    """

    partner_of_truth: np.ndarray
    partner_of_found: np.ndarray
    distance_um: np.ndarray
    true_counts: np.ndarray
    found_counts: np.ndarray
    within_um: float

    def units(self) -> np.ndarray:
        """Return one row an object or matched pair that is scored: (true, hit, found, right).

        ``true``: a true object is scored; ``hit``: it has a partner; ``found``: a predicted
        object is scored; ``right``: it has a partner. A matched pair is one row, since its two
        sides are not independent.
        """
        true = np.flatnonzero(self.true_counts)
        partner = self.partner_of_truth[true]
        paired = partner >= 0
        with_found = np.zeros(len(true), bool)
        with_found[paired] = self.found_counts[partner[paired]]
        first = np.stack([np.ones(len(true)), paired, with_found, with_found], 1)

        seen = np.zeros(len(self.found_counts), bool)
        seen[partner[paired]] = True
        rest = np.flatnonzero(self.found_counts & ~seen)
        right = self.partner_of_found[rest] >= 0
        zero = np.zeros(len(rest))
        second = np.stack([zero, zero, np.ones(len(rest)), right], 1)
        return np.concatenate([first, second]).astype(float)


def match(true_um: np.ndarray, found_um: np.ndarray, within_um: float) -> np.ndarray:
    """Match points one to one: as many pairs as possible, then the least sum of distances.

    Args:
        true_um: positions (n, 3).
        found_um: positions (m, 3).
        within_um: pairs may not be farther apart.

    Returns:
        for each true point the row of its partner in ``found_um``, or -1, (n,).
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    partner = np.full(len(true_um), -1)
    if not len(true_um) or not len(found_um):
        return partner
    near = cKDTree(true_um).sparse_distance_matrix(
        cKDTree(found_um), within_um, output_type="ndarray"
    )
    total = len(true_um) + len(found_um)
    links = coo_array((np.ones(len(near)), (near["i"], near["j"] + len(true_um))), (total, total))
    _, group = connected_components(links, directed=False)
    order = np.argsort(group[near["i"]], kind="stable")
    near = near[order]
    cuts = np.flatnonzero(np.diff(group[near["i"]])) + 1
    for pairs in np.split(near, cuts) if len(near) else []:
        rows, row = np.unique(pairs["i"], return_inverse=True)
        columns, column = np.unique(pairs["j"], return_inverse=True)
        # One forbidden pair costs more than all allowed ones together.
        forbidden = within_um * (min(len(rows), len(columns)) + 1.0)
        cost = np.full((len(rows), len(columns)), forbidden)
        cost[row, column] = pairs["v"]
        allowed = np.zeros(cost.shape, bool)
        allowed[row, column] = True
        for a, b in zip(*linear_sum_assignment(cost), strict=True):
            if allowed[a, b]:
                partner[rows[a]] = columns[b]
    return partner


def detect(
    truth: Census,
    found: Census,
    boxes: Sequence[Box],
    voxel_um: tuple[float, float, float],
    within_um: float | None,
    min_voxels: int = 0,
) -> Detection:
    """Match found objects with true ones and say which of them are scored.

    Args:
        truth: true objects of the whole volume.
        found: predicted objects of the whole volume.
        boxes: test boxes; only objects whose centroid lies in one are scored.
        voxel_um: voxel size (z, y, x).
        within_um: the match distance; None takes :func:`median_radius` of the true objects.
        min_voxels: true objects smaller than this are not counted as missed.
    """
    size = np.array(voxel_um)
    if within_um is None:
        within_um = median_radius(truth.voxels[truth.voxels >= min_voxels], voxel_um)
    partner = match(truth.centroid_vox * size, found.centroid_vox * size, within_um)
    matched = np.flatnonzero(partner >= 0)
    back = np.full(len(found), -1)
    back[partner[matched]] = matched
    apart = np.full(len(truth), np.nan)
    step = (truth.centroid_vox[matched] - found.centroid_vox[partner[matched]]) * size
    apart[matched] = np.linalg.norm(step, axis=1)
    return Detection(
        partner,
        back,
        apart,
        inside(truth.centroid_vox, boxes) & (truth.voxels >= min_voxels),
        inside(found.centroid_vox, boxes),
        within_um,
    )


def median_radius(voxels: np.ndarray, voxel_um: tuple[float, float, float]) -> float:
    """Return the median radius (um) of objects, each as a ball of its volume; 0 for none."""
    if not len(voxels):
        return 0.0
    volume = float(np.median(voxels)) * float(np.prod(voxel_um))
    return float((3 * volume / (4 * np.pi)) ** (1 / 3))


def inside(centroid_vox: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Which points lie in one of the boxes; a voxel reaches half a voxel around its centre."""
    result = np.zeros(len(centroid_vox), bool)
    for box in boxes:
        low, high = np.array(box.start) - 0.5, np.array(box.stop) - 0.5
        result |= ((centroid_vox >= low) & (centroid_vox < high)).all(1)
    return result

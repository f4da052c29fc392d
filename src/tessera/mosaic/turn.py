"""Rotation and scale between two tiles, as the shifts of their overlap's regions tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.mosaic.tile import Vector, to_vector

_SIGNIFICANT = 4.0  # standard errors from which rotation or scale is said to be there
_NOTICEABLE_VOX = 0.25  # ... if it also moves the overlap's ends by this much


@dataclass(frozen=True)
class Turn:
    """Rotation and scale of b against a, as the shifts of an overlap's regions tell.

    Attributes:
        rotation_deg: small rotation about the z, y and x axes.
        scale: b's size over a's.
        there: larger than its error, and large enough to matter.
    """

    rotation_deg: Vector
    scale: float
    there: bool


def find_turn(centres: np.ndarray, off: np.ndarray, weights: np.ndarray) -> Turn | None:
    """Fit shift = rotation x place + scale * place to the regions' shifts.

    What regions in one line or plane cannot tell stays 0.

    Args:
        centres: (regions, 3) middles of the regions (z, y, x), in voxels.
        off: (regions, 3) each region's shift less the mean of all, in voxels.
        weights: (regions,) how well each is known; they sum to one.

    Returns:
        None where there are fewer than four regions.
    """
    if len(centres) < 4:
        return None
    place = centres - (weights[:, None] * centres).sum(axis=0)
    rows, right, weight = [], [], []
    for (z, y, x), moved, w in zip(place, off, weights, strict=True):
        # Columns: rotation about z, y, x (radian), scale, and the mean shift.
        rows += [[0, x, -y, z, 1, 0, 0], [-x, 0, z, y, 0, 1, 0], [y, -z, 0, x, 0, 0, 1]]
        right += list(moved)
        weight += [np.sqrt(w)] * 3
    design = np.array(rows, float) * np.array(weight)[:, None]
    values = np.array(right) * np.array(weight)
    solved, _, rank, _ = np.linalg.lstsq(design, values, rcond=1e-9)
    free = max(len(values) - int(rank), 1)
    sigma2 = float(((values - design @ solved) ** 2).sum()) / free
    error = np.sqrt(np.diag(np.linalg.pinv(design.T @ design, rcond=1e-9)) * sigma2)[:4]
    reach = float(np.abs(place).max())
    strong = np.abs(solved[:4]) > np.maximum(_SIGNIFICANT * error, _NOTICEABLE_VOX / reach)
    return Turn(to_vector(np.degrees(solved[:3])), 1 + float(solved[3]), bool(strong.any()))

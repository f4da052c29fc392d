"""The rotation axis, found where the scan closes on itself (:mod:`tessera.recon.seam`).

1. The mismatch across the seams of the scan, for candidates over the detector, says about where.
2. Around it, the likelihood of each axis given the frames near the seams
   (:mod:`tessera.recon.closing`) says where, to hundredths of a pixel.
3. Bands of rows vote. Their line is the axis and its tilt; their scatter, and how far the best
   candidate stands out from the second best, say how far it can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from tessera.config import Axis
from tessera.recon.closing import curves
from tessera.recon.seam import Seam, mismatch

_SMOOTH = 20.0  # pixels; wider structure is background
_LEAST_OVERLAP = 0.25  # of the columns must have a mirror image
_LEAST_COLUMNS = 16
_REACH = 6  # columns about the coarse axis that are looked at closely
_ROUNDS = 4
_SECOND = 3.0  # columns beyond which a second candidate is another one
_AGREES = 0.5  # columns between a vote and the line
_DECISIVE = 50.0  # log likelihood by which the best candidate of pure noise never leads
_STRIPE = 6.0  # robust standard deviations of a pixel that stands out in all frames


@dataclass(frozen=True)
class FoundAxis:
    """Where the axis is.

    Attributes:
        column: axis at the middle of the rows looked at, as a pixel-centre column.
        tilt_deg: angle between the axis and the detector's columns.
        confidence: 0 to 1: how far the best candidate stands out, times the share of votes that
            agree.
        error: standard error of the column as the votes' scatter gives it; None with fewer than 3.
        votes: (row, column) of each band of rows.
        candidates: (column, mismatch) of the search.
        how: ``found`` or ``given``.
    """

    column: float
    tilt_deg: float
    confidence: float
    error: float | None
    votes: list[tuple[float, float]]
    candidates: list[tuple[float, float]]
    how: str

    def columns(self, rows: np.ndarray, middle: float, tilted: bool) -> np.ndarray:
        """Return the axis of each detector row; one for all unless ``tilted``."""
        slope = np.tan(np.deg2rad(self.tilt_deg)) if tilted else 0.0
        return self.column + slope * (np.asarray(rows, float) - middle)


def given_axis(column: float, candidates: list[tuple[float, float]] | None = None) -> FoundAxis:
    """Return the axis that a person gave."""
    return FoundAxis(column, 0.0, 1.0, None, [], candidates or [], "given")


def find_axis(
    frames: np.ndarray,
    found: list[Seam],
    settings: Axis,
    rows: np.ndarray,
    near_edge: bool = False,
) -> FoundAxis:
    """Find the rotation axis.

    Args:
        frames: line integrals (frames, bands * rows, columns); the seams' frames are enough.
        found: seams of the scan (:func:`tessera.recon.seam.seams`), numbered within ``frames``;
            without any the confidence is 0.
        settings: where to look.
        rows: (bands, rows of a band) detector rows; the rows of a band are neighbours.
        near_edge: half acquisition: the axis is anywhere, and little of the frames overlaps.
    """
    columns = frames.shape[2]
    middle = (columns - 1) / 2
    nothing = FoundAxis(middle, 0.0, 0.0, None, [], [], "found")
    if not found:
        return nothing
    fine = _fine_structure(frames)
    least = _LEAST_COLUMNS if near_edge else max(_LEAST_OVERLAP * columns, _LEAST_COLUMNS)
    reach = np.inf if near_edge else settings.search_vox
    coarse, cost = mismatch(fine, found, least)
    within = np.abs(coarse - middle) <= reach
    coarse, cost = coarse[within], cost[within]
    if not len(coarse):
        return nothing
    candidates = [(float(a), float(c)) for a, c in zip(coarse, cost, strict=True)]
    banded = fine.reshape(len(fine), *rows.shape, columns).swapaxes(0, 1)
    axes, likelihood = _closely(banded, found, float(coarse[int(np.argmin(cost))]), columns)
    total = likelihood.sum(axis=0)
    column = _summit(axes, total)
    near = np.abs(axes - column) <= _SECOND
    votes = [
        (float(np.mean(r)), _summit(axes[near], c[near]))
        for r, c in zip(rows, likelihood, strict=True)
    ]
    centre = (float(rows.min()) + float(rows.max())) / 2
    slope = 0.0
    if settings.tilt and len(votes) > 1:
        column, slope = _line(np.array(votes), centre)
    away = np.array([c - column - slope * (r - centre) for r, c in votes])
    spread = 1.4826 * float(np.median(np.abs(away)))
    agree = float(np.mean(np.abs(away) < _AGREES))
    return FoundAxis(
        column=column,
        tilt_deg=float(np.rad2deg(np.arctan(_line(np.array(votes), centre)[1]))),
        confidence=_stands_out(axes, total, column, candidates) * agree,
        error=spread / np.sqrt(len(votes)) if len(votes) > 2 else None,
        votes=votes,
        candidates=candidates,
        how="found",
    )


def _fine_structure(frames: np.ndarray) -> np.ndarray:
    """Frames without their background, and without pixels that stand out in all of them."""
    frames = frames - gaussian_filter1d(frames, min(_SMOOTH, frames.shape[2] / 8), axis=2)
    mean = frames.mean(axis=0)
    still = mean - median_filter(mean, size=(1, 5), mode="nearest")
    usual = 1.4826 * np.median(np.abs(still))
    return np.asarray(frames - np.where(np.abs(still) > _STRIPE * usual, still, 0), np.float32)


def _closely(
    banded: np.ndarray, found: list[Seam], start: float, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Axes (n,) and log likelihoods (bands, n) about the best one; mirrored ever nearer to it."""
    best = start
    for _ in range(_ROUNDS):
        middle = int(np.clip(round(best), _LEAST_COLUMNS // 2, columns - 1 - _LEAST_COLUMNS // 2))
        sides = [
            curves(banded[:, s.left], banded[:, s.right], s, middle, _REACH, columns) for s in found
        ]
        axes, likelihood = sides[0][0], np.sum([side[1] for side in sides], axis=0)
        best = _summit(axes, likelihood.sum(axis=0))
        if abs(best - middle) < 0.75:
            break
    return axes, likelihood


def _summit(axes: np.ndarray, likelihood: np.ndarray) -> float:
    """Place of the maximum, by a parabola through its neighbours."""
    k = int(np.clip(np.argmax(likelihood), 1, len(axes) - 2))
    a, b, c = likelihood[k - 1 : k + 2]
    bend = a - 2 * b + c
    shift = 0.5 * (a - c) / bend if bend < 0 else 0.0
    return float(axes[k] + np.clip(shift, -1, 1) * (axes[1] - axes[0]))


def _stands_out(
    axes: np.ndarray, likelihood: np.ndarray, column: float, candidates: list[tuple[float, float]]
) -> float:
    """How far the best axis stands out from the second best, 0 to 1; 0 if the search disagrees.

    The lead counts twice: relative to the best (a periodic specimen has rivals), and as it is (in
    noise the best leads by little, whatever the share).
    """
    other = np.abs(axes - column) > _SECOND
    best = float(likelihood.max())
    second = max(float(likelihood[other].max()), 0.0) if other.any() else 0.0
    here = min((c for a, c in candidates if abs(a - column) <= 1.0), default=np.inf)
    far = min((c for a, c in candidates if abs(a - column) > _SECOND), default=np.inf)
    lead = best - second
    if lead <= 0 or here >= far:
        return 0.0
    return lead / best * lead / (lead + _DECISIVE)


def _line(votes: np.ndarray, centre: float) -> tuple[float, float]:
    """Theil-Sen line through the votes: column at the centre row, and slope."""
    i, j = np.triu_indices(len(votes), 1)
    if not len(i):
        return float(votes[0, 1]), 0.0
    slopes = (votes[j, 1] - votes[i, 1]) / (votes[j, 0] - votes[i, 0])
    slope = float(np.median(slopes))
    return float(np.median(votes[:, 1] - slope * (votes[:, 0] - centre))), slope

"""The rotation axis, found where the scan closes on itself.

Turned by 180 degrees a parallel projection is its own mirror image: ``p(theta + 180, c) =
p(theta, 2 axis - c)``. Behind the last projection the first ones follow again, mirrored about the
axis; at the right axis the row of frames goes on smoothly there. The cost of a candidate is the
mean square of the second differences in angle across that seam. It holds for tiles narrower than
their specimen too, and needs no reconstruction. Groups of rows vote; their median is the axis,
their scatter says how far it can be trusted, and a line through them is its tilt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tessera.config import Axis

_GROUPS = 9
_SMOOTH = 1.0  # pixels; an interpolation that smooths a little more at half pixels then shows not
_COARSE = 0.5
_LEAST_OVERLAP = 0.25  # of the columns must have a mirror image


@dataclass(frozen=True)
class FoundAxis:
    """Where the axis is.

    Attributes:
        column: axis at the middle row, as a pixel-centre column.
        tilt_deg: angle between the axis and the detector's columns.
        confidence: 0 to 1; how deep the minimum is, times the share of votes that agree.
        votes: (row, column) of each group of rows.
        candidates: (column, cost) of the search.
        how: ``found`` or ``given``.
    """

    column: float
    tilt_deg: float
    confidence: float
    votes: list[tuple[float, float]]
    candidates: list[tuple[float, float]]
    how: str

    def columns(self, rows: np.ndarray, middle: float, tilted: bool) -> np.ndarray:
        """Return the axis of each detector row; one for all unless ``tilted``."""
        slope = np.tan(np.deg2rad(self.tilt_deg)) if tilted else 0.0
        return self.column + slope * (np.asarray(rows, float) - middle)


def find_axis(
    sinograms: np.ndarray, angles_deg: np.ndarray, settings: Axis, rows: np.ndarray
) -> FoundAxis:
    """Find the rotation axis.

    Args:
        sinograms: line integrals (angles, rows, columns), stripes removed.
        angles_deg: (angles,), evenly spaced, over 180 or 360 degrees.
        settings: where to look.
        rows: (rows,) detector rows that the sinograms are of.
    """
    columns = sinograms.shape[2]
    middle = (columns - 1) / 2
    seams = _seams(sinograms, angles_deg)
    reach = min(settings.search_vox, middle * (1 - _LEAST_OVERLAP))
    coarse = np.arange(middle - reach, middle + reach + _COARSE / 2, _COARSE)
    groups = np.array_split(np.arange(sinograms.shape[1]), min(_GROUPS, sinograms.shape[1]))
    total = np.array([_cost(seams, a) for a in coarse])
    start = float(coarse[int(np.argmin(total))])
    span = min(start, columns - 1 - start) - 3
    votes = []
    for group in groups:
        column = _refine(lambda a, g=group: _cost(seams[:, :, g], a, span), start)
        votes.append((float(np.mean(rows[group])), column))
    centre = (float(rows[0]) + float(rows[-1])) / 2
    if settings.tilt:
        column, slope = _line(np.array(votes), centre)
    else:  # all rows at once: weights each by what it shows
        column, slope = _refine(lambda a: _cost(seams, a, span), start), 0.0
    expected = np.array([column + slope * (r - centre) for r, _ in votes])
    agree = float(np.mean(np.abs(np.array([c for _, c in votes]) - expected) < 1.0))
    depth = 1.0 - float(total.min()) / max(float(np.median(total)), 1e-30)
    return FoundAxis(
        column=column,
        tilt_deg=float(np.rad2deg(np.arctan(slope))),
        confidence=max(0.0, depth) * agree,
        votes=votes,
        candidates=[(float(a), float(c)) for a, c in zip(coarse, total, strict=True)],
        how="found",
    )


def _seams(sinograms: np.ndarray, angles_deg: np.ndarray) -> np.ndarray:
    """Frames (seams, 4, rows, columns) around each place where mirrored frames follow others:

    two before and two, still unmirrored, that come half a turn later.
    """
    frames = gaussian_filter1d(sinograms, _SMOOTH, axis=2)
    # Only fine structure: slow drifts of the beam are not mirrored.
    frames = frames - gaussian_filter1d(frames, 16.0, axis=2)
    step = float(np.mean(np.abs(np.diff(angles_deg))))
    half = 180.0 / step
    count = len(angles_deg)
    if count * step < 185.0:
        first = count - round(half)  # the frame that lies 180 degrees before the seam
        first = max(first, 0)
        return frames[[[-2, -1, first, first + 1]]].astype(np.float64)
    turn = round(half)
    starts = np.arange(1, count - turn - 1, max(1, (count - turn) // 16))
    return np.stack(
        [frames[[i - 1 + turn, i + turn, i + 1, i + 2]] for i in starts if i + turn < count]
    ).astype(np.float64)


def _cost(seams: np.ndarray, axis: float, reach: float | None = None) -> float:
    """Weighted mean square of the second differences across the seams.

    Frames before the seam are read at ``axis + u``, those after it at ``axis - u``, for the same u
    whatever the axis: what a candidate is judged by does not change with the candidate, and the
    window falls to nothing at its ends, where structure enters and leaves.
    """
    columns = seams.shape[-1]
    most = min(axis, columns - 1 - axis)
    reach = most if reach is None else min(reach, most)
    if 2 * reach < _LEAST_OVERLAP * columns:
        return float("inf")
    u = np.arange(-np.floor(reach), np.floor(reach) + 1)
    weight = np.cos(np.pi / 2 * u / (np.floor(reach) + 1)) ** 2
    a, b = (_at(seams[:, k], axis + u) for k in (0, 1))
    c, d = (_at(seams[:, k], axis - u) for k in (2, 3))
    bends = (a - 2 * b + c) ** 2 + (b - 2 * c + d) ** 2
    return float(np.mean(bends @ weight) / weight.sum())


def _at(frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values of (..., columns) at fractional columns: a shift by spline and whole samples."""
    first = places[0]
    whole = int(np.floor(min(places[0], places[-1])))
    part = float(min(places[0], places[-1]) - whole)
    count = len(places)
    lead = np.pad(frames, [(0, 0)] * (frames.ndim - 1) + [(2, 3)], mode="edge")
    t = part
    # Cubic Lagrange weights at offsets -1, 0, 1, 2.
    weights = (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )
    out = sum(w * lead[..., whole + 1 + k : whole + 1 + k + count] for k, w in enumerate(weights))
    values = np.asarray(out)
    return values if places[-1] > first else values[..., ::-1]


def _refine(cost, start: float) -> float:  # type: ignore[no-untyped-def]
    """Nearest minimum to sub-pixel: finer grids, then a parabola."""
    best = start
    for step in (0.25, 0.05):
        grid = best + step * np.arange(-6, 7)
        values = [cost(a) for a in grid]
        best = float(grid[int(np.argmin(values))])
    near = np.array([cost(best + s) for s in (-0.05, 0.0, 0.05)])
    bend = near[0] - 2 * near[1] + near[2]
    return best + (0.05 * 0.5 * (near[0] - near[2]) / bend if bend > 0 else 0.0)


def _line(votes: np.ndarray, centre: float) -> tuple[float, float]:
    """Theil-Sen line through the votes: column at the centre row, and slope."""
    i, j = np.triu_indices(len(votes), 1)
    if not len(i):
        return float(votes[0, 1]), 0.0
    slopes = (votes[j, 1] - votes[i, 1]) / (votes[j, 0] - votes[i, 0])
    slope = float(np.median(slopes))
    return float(np.median(votes[:, 1] - slope * (votes[:, 0] - centre))), slope

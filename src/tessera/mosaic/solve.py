"""One solution for all tiles from the shifts of all pairs.

Unknown is each tile's correction to its nominal place; the anchor's is zero. A pair measures the
difference of two corrections, with a covariance. The sum of squared, whitened residuals is made
least under Cauchy's robust weight (iteratively reweighted least squares), so that a single wrong
pair does not pull its neighbours; a pair that still disagrees by more than the gate's residual is
left out and named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.mosaic.pair import Measured

_ROUNDS = 50
_WIDTH = 2.4  # Cauchy's constant: 95 % efficiency on Gaussian errors
_REJECT_SHARE = 0.1  # of the good pairs; more than that is not an outlier but a wrong mosaic


@dataclass(frozen=True)
class Solution:
    """Solved corrections and what is left over.

    Attributes:
        corrections: (tiles, 3) in voxels; rows of unreached tiles are zero.
        residuals: (pairs, 3) measured minus solved, in voxels.
        used: pairs that the solution stands on.
        reached: tiles that used pairs connect to the anchor.
        rms_vox: root mean square length of the residuals of used pairs.
    """

    corrections: np.ndarray
    residuals: np.ndarray
    used: np.ndarray
    reached: np.ndarray
    rms_vox: float


def solve(count: int, pairs: list[Measured], min_quality: float, max_residual: float) -> Solution:
    """Solve the corrections of ``count`` tiles.

    Args:
        count: number of tiles; tile 0 is the anchor.
        pairs: all measured pairs.
        min_quality: pairs of lower correlation, or with a shift on the edge of reach, are left out.
        max_residual: in voxels; pairs that disagree by more are left out, worst first.
    """
    used = np.array([good(p, min_quality) for p in pairs], bool)
    while True:
        corrections = _reweighted(count, pairs, used)
        residuals = _residuals(corrections, pairs)
        length = np.where(used, np.linalg.norm(residuals, axis=1), 0.0)
        worst = int(length.argmax()) if len(pairs) else 0
        if not used.any() or length[worst] <= max_residual:
            break
        # A pair that alone holds two parts together has no residual, so none is cut off here.
        used[worst] = False
    reached = connected(count, [p for p, u in zip(pairs, used, strict=True) if u])
    rms = float(np.sqrt((residuals[used] ** 2).sum(axis=1).mean())) if used.any() else 0.0
    return Solution(corrections, residuals, used, reached, rms)


def good(pair: Measured, min_quality: float) -> bool:
    """True if a pair's shift can be believed by itself."""
    return pair.quality >= min_quality and pair.inside and pair.agreed[0] > 0


def connected(count: int, pairs: list[Measured]) -> np.ndarray:
    """Return which tiles the pairs connect to tile 0."""
    reached = np.zeros(count, bool)
    reached[:1] = True
    for _ in range(count):
        before = reached.sum()
        for p in pairs:
            if reached[p.pair.a] or reached[p.pair.b]:
                reached[[p.pair.a, p.pair.b]] = True
        if reached.sum() == before:
            break
    return reached


def _residuals(corrections: np.ndarray, pairs: list[Measured]) -> np.ndarray:
    out = [np.array(p.shift) - (corrections[p.pair.b] - corrections[p.pair.a]) for p in pairs]
    return np.array(out).reshape(len(pairs), 3)


def _reweighted(count: int, pairs: list[Measured], used: np.ndarray) -> np.ndarray:
    corrections = np.zeros((count, 3))
    weights = used.astype(float)
    for _ in range(_ROUNDS):
        before = corrections
        corrections = _least_squares(count, pairs, weights)
        residuals = _residuals(corrections, pairs)
        whitened = np.array(
            [
                np.sqrt(max(r @ p.information @ r, 0.0))
                for p, r in zip(pairs, residuals, strict=True)
            ]
        )
        # Residuals beyond what the covariances say widen the weight, not the outliers' share.
        scale = max(1.0, 1.4826 * float(np.median(whitened[used]))) if used.any() else 1.0
        weights = used / (1 + (whitened / (_WIDTH * scale)) ** 2)
        if np.abs(corrections - before).max(initial=0.0) < 1e-6:
            break
    return corrections


def _least_squares(count: int, pairs: list[Measured], weights: np.ndarray) -> np.ndarray:
    normal = np.zeros((count, 3, count, 3))
    right = np.zeros((count, 3))
    for p, w in zip(pairs, weights, strict=True):
        if w <= 0:
            continue
        a, b, info = p.pair.a, p.pair.b, w * p.information
        normal[a, :, a] += info
        normal[b, :, b] += info
        normal[a, :, b] -= info
        normal[b, :, a] -= info
        right[b] += info @ np.array(p.shift)
        right[a] -= info @ np.array(p.shift)
    size = 3 * count
    matrix, vector = normal.reshape(size, size)[3:, 3:], right.reshape(size)[3:]
    # A whiff of trust in the nominal place keeps tiles without pairs where they are.
    matrix = matrix + 1e-9 * np.eye(size - 3) * max(1.0, float(np.trace(matrix)) / max(size, 1))
    return np.concatenate([np.zeros(3), np.linalg.solve(matrix, vector)]).reshape(count, 3)


def gate(names: list[str], pairs: list[Measured], solution: Solution, min_quality: float) -> str:
    """Return why the solution must not be used, or an empty text."""
    lost = [n for n, ok in zip(names, solution.reached, strict=True) if not ok]
    if lost:
        shown = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
        return (
            f"no overlap of good quality connects {shown} to {names[0]}; check stage positions, "
            "overlap and mosaic.max_shift_vox"
        )
    fine = np.array([good(p, min_quality) for p in pairs], bool)
    rejected = fine & ~solution.used
    if rejected.sum() > np.floor(_REJECT_SHARE * fine.sum()):
        worst = int(np.where(rejected, np.linalg.norm(solution.residuals, axis=1), -1).argmax())
        a, b = pairs[worst].pair.a, pairs[worst].pair.b
        size = float(np.linalg.norm(solution.residuals[worst]))
        return (
            f"{int(rejected.sum())} of {int(fine.sum())} overlaps contradict the others, worst "
            f"{names[a]} and {names[b]} by {size:.2f} voxels; look at the tile map in the report, "
            "or raise mosaic.max_residual_vox"
        )
    return ""

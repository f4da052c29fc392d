"""A score with its confidence interval, by the percentile bootstrap.

Every score here is a function of *sums* over independent units (blocks of voxels, objects,
tiles): Dice of the sums of hits, false alarms and misses; F1 of the sums of matches. So a
resample is a weight per unit, and a bootstrap is one product of weights and table
(Efron 1979, doi:10.1214/aos/1176344552).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # sums (..., k) -> values (...)

_SEED = 20_240_517  # any fixed number: the same tables give the same intervals
_LEVEL = 95.0


@dataclass(frozen=True)
class Score:
    """One number as it stands in ``metrics.json``.

    Attributes:
        value: the score; NaN where it is not defined (nothing to find and nothing found).
        unit: ``1`` for a ratio.
        n: number of independent units that it comes from.
        low, high: 95 % percentile interval over resampled units; None where there is none.
        of: what the units are, in the plural.
    """

    value: float
    unit: str = "1"
    n: int = 1
    low: float | None = None
    high: float | None = None
    of: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the score with numbers rounded to what they can mean; undefined is null."""
        return {
            "value": _plain(self.value),
            "low": _plain(self.low),
            "high": _plain(self.high),
            "unit": self.unit,
            "n": self.n,
            "of": self.of,
        }


def _plain(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.7g}")


def score(
    units: np.ndarray, statistic: Statistic, draws: int, unit: str = "1", of: str = ""
) -> Score:
    """Return a statistic of the sums over units, with its interval.

    Args:
        units: one row a unit, one column a count, (n, k).
        statistic: function of the columns' sums.
        draws: number of resamples; 0 gives no interval.
        unit: the score's unit.
        of: what the units are, in the plural.
    """
    units = np.asarray(units, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(units.sum(0)))
        low, high = _interval(units, statistic, draws)
    return Score(value, unit, len(units), low, high, of)


def _interval(
    units: np.ndarray, statistic: Statistic, draws: int
) -> tuple[float | None, float | None]:
    count = len(units)
    if draws == 0 or count < 2:
        return None, None
    random = np.random.default_rng(_SEED)
    share = np.full(count, 1 / count)
    sums = np.stack([random.multinomial(count, share) @ units for _ in range(draws)])
    values = statistic(sums)
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    tail = (100 - _LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


# --- statistics of sums; the columns are named in each ------------------------------------------


def dice(sums: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of columns (TP, FP, FN)."""
    tp, fp, fn = np.moveaxis(sums, -1, 0)
    return np.asarray(2 * tp / (2 * tp + fp + fn))


def iou(sums: np.ndarray) -> np.ndarray:
    """TP / (TP + FP + FN) of columns (TP, FP, FN)."""
    tp, fp, fn = np.moveaxis(sums, -1, 0)
    return np.asarray(tp / (tp + fp + fn))


def precision(sums: np.ndarray) -> np.ndarray:
    """Share of the found objects that are true; columns as in :mod:`.detection`."""
    _, _, found, right = np.moveaxis(sums, -1, 0)
    return np.asarray(right / found)


def recall(sums: np.ndarray) -> np.ndarray:
    """Share of the true objects that are found; columns as in :mod:`.detection`."""
    true, hit, _, _ = np.moveaxis(sums, -1, 0)
    return np.asarray(hit / true)


def f1(sums: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall; 0 without a match, undefined without any object."""
    true, hit, found, right = np.moveaxis(sums, -1, 0)
    # 2 / (1/P + 1/R), written so that no match gives 0 and not 0/0.
    return np.asarray(
        2 * hit * right / (right * true + hit * found + ((hit * right == 0) & (true + found > 0)))
    )


def count_error_percent(sums: np.ndarray) -> np.ndarray:
    """How many more objects were found than there are, in percent of those there are."""
    true, _, found, _ = np.moveaxis(sums, -1, 0)
    return np.asarray(100 * (found - true) / true)


def root_mean_square(sums: np.ndarray) -> np.ndarray:
    """Root of the mean of columns (number, sum of squares)."""
    return np.asarray(np.sqrt(sums[..., 1] / sums[..., 0]))

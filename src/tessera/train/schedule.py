"""The learning rate of a step: scaled with the ranks, warmed up, then falling."""

from __future__ import annotations

import math

_LINEAR_TO = 16  # ranks; beyond, the square root trains best (Dong 2019, arXiv:1905.06236)


def rank_factor(scaling: str, ranks: int) -> float:
    """Return what N ranks multiply the learning rate of one by.

    ``linear`` (Goyal 2017, arXiv:1706.02677), ``sqrt``, ``none``; ``auto`` is linear up to 16
    ranks and grows with the square root from there.
    """
    if scaling == "linear":
        return float(ranks)
    if scaling == "sqrt":
        return math.sqrt(ranks)
    if scaling == "auto":
        return ranks if ranks <= _LINEAR_TO else _LINEAR_TO * math.sqrt(ranks / _LINEAR_TO)
    return 1.0


def learning_rate(base: float, shape: str, step: int, steps: int, factor: float) -> float:
    """Return the learning rate of a step.

    Args:
        base: rate of one rank.
        shape: ``cosine`` or ``linear`` fall to zero at the end, ``constant`` does not.
        step: from 0.
        steps: of the whole training.
        factor: of :func:`rank_factor`; it is reached at the end of the warm-up, a twentieth of
            the training, which begins at a tenth of ``base``.
    """
    warm = max(1, steps // 20)
    peak = base * factor
    if step < warm:
        low = 0.1 * base
        return low + (peak - low) * (step + 1) / warm
    part = (step - warm) / max(1, steps - warm)
    if shape == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * part))
    if shape == "linear":
        return peak * (1 - part)
    return peak

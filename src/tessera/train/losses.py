"""Losses, each the mean over samples of a sample's own loss.

A sample's loss looks at no other sample, so the mean over ranks of ranks' means is the mean over
all samples: N ranks with batch b have the gradient of one rank with batch N * b. Voxels outside
the mask do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-5


def loss_of(
    logits: Tensor, target: Tensor, mask: Tensor, kind: str, softmax: bool, weights: Tensor | None
) -> Tensor:
    """Return the loss of a batch.

    Args:
        logits: (sample, channel, z, y, x).
        target: the same shape, in 0..1.
        mask: (sample, 1 or channel, z, y, x), true where a voxel counts.
        kind: ``ce``, ``dice``, ``dice+ce`` or ``soft-margin``.
        softmax: channels exclude each other; else each is a sigmoid of its own.
        weights: of the channels (balancing classes), or None.
    """
    logits, counts = logits.float(), mask.float()
    total = torch.zeros((), device=logits.device)
    if kind in ("ce", "dice+ce"):
        total = total + cross_entropy(logits, target, counts, softmax, weights)
    if kind == "soft-margin":
        total = total + soft_margin(logits, target, counts, weights)
    if kind in ("dice", "dice+ce"):
        total = total + dice_loss(logits, target, counts, softmax)
    return total


def cross_entropy(
    logits: Tensor, target: Tensor, counts: Tensor, softmax: bool, weights: Tensor | None
) -> Tensor:
    """Cross-entropy: over all channels (softmax), or of each channel by itself (sigmoids)."""
    if softmax:
        each = -target * torch.log_softmax(logits, 1)
        each = (each if weights is None else each * _channels(weights)).sum(1, keepdim=True)
    else:
        each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        each = each if weights is None else each * _channels(weights)
    return _mean(each, counts)


def soft_margin(logits: Tensor, target: Tensor, counts: Tensor, weights: Tensor | None) -> Tensor:
    """Soft margin: log(1 + exp(-y x)) with y = -1 or 1, each channel against the rest."""
    each = functional.softplus(-(2 * target - 1) * logits)
    return _mean(each if weights is None else each * _channels(weights), counts)


def dice_loss(logits: Tensor, target: Tensor, counts: Tensor, softmax: bool) -> Tensor:
    """Soft Dice (Milletari 2016, doi:10.1109/3DV.2016.79) of the classes present in a sample.

    With softmax the background is left out. A class that a sample lacks has no overlap to speak
    of and is left to the other loss.
    """
    chance = torch.softmax(logits, 1)[:, 1:] if softmax else torch.sigmoid(logits)
    wanted = target[:, 1:] if softmax else target
    axes = (2, 3, 4)
    chance, wanted = chance * counts, wanted * counts
    overlap = (chance * wanted).sum(axes)
    sizes = chance.sum(axes) + wanted.sum(axes)
    present = (wanted.sum(axes) > 0).float()
    each = (1 - 2 * overlap / (sizes + _EPS)) * present
    return (each.sum(1) / present.sum(1).clamp_min(1)).mean()


def median_frequency(voxels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return class weights: median frequency over own frequency (Eigen & Fergus 2015,
    doi:10.1109/ICCV.2015.304); a class without voxels gets 0.

    Args:
        voxels: labelled voxels of each class.
    """
    count = np.asarray(voxels, dtype=np.float64)
    frequency = count / max(count.sum(), 1)
    present = frequency > 0
    middle = float(np.median(frequency[present])) if present.any() else 0.0
    return np.where(present, middle / np.where(present, frequency, 1), 0.0)


def _channels(weights: Tensor) -> Tensor:
    return weights.view(1, -1, 1, 1, 1)


def _mean(each: Tensor, counts: Tensor) -> Tensor:
    """Mean over a sample's counted voxels, then over samples."""
    counts = counts.expand_as(each)
    axes = (1, 2, 3, 4)
    return ((each * counts).sum(axes) / counts.sum(axes).clamp_min(1)).mean()

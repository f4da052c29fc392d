"""What the network should say, from integer labels.

A target is (channel, z, y, x) in 0..1 with a mask (1 or channel, z, y, x) of the voxels that count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

AFFINITIES = ("affinity_z", "affinity_y", "affinity_x")


def output_classes(target: str, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the network's output channels."""
    if target == "boundaries":
        return ("boundary",)
    if target == "affinities":
        return AFFINITIES
    return tuple(classes)


def activation(target: str) -> str:
    """Return what turns logits into probabilities."""
    return "softmax" if target == "classes" else "sigmoid"


def make_target(labels: Tensor, kind: str, channels: int) -> tuple[Tensor, Tensor]:
    """Return target and mask of one sample's labels (z, y, x).

    Args:
        labels: class index, a bit for each class, or object id; negative where unlabelled.
        kind: ``classes``, ``multilabel``, ``boundaries`` or ``affinities``.
        channels: number of output channels.
    """
    known = labels >= 0
    if kind == "boundaries":
        return boundaries(labels)
    if kind == "affinities":
        return affinities(labels)
    index = torch.arange(channels, device=labels.device).view(-1, 1, 1, 1)
    if kind == "multilabel":
        return ((labels[None].int() >> index) & 1).float() * known[None], known[None]
    return (labels[None] == index).float(), known[None]


def boundaries(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels with a face neighbour of another id, both sides, as ``find_boundaries('thick')``.

    A voxel beside an unlabelled one does not count: nobody knows what it borders on.
    """
    edge = torch.zeros_like(labels, dtype=torch.bool)
    known = labels >= 0
    counts = known.clone()
    for axis in range(3):
        n = labels.shape[axis]
        left, right = labels.narrow(axis, 0, n - 1), labels.narrow(axis, 1, n - 1)
        differ = left != right
        both = known.narrow(axis, 0, n - 1) & known.narrow(axis, 1, n - 1)
        for start in (0, 1):
            edge.narrow(axis, start, n - 1).logical_or_(differ & both)
            counts.narrow(axis, start, n - 1).logical_and_(both)
    return edge[None].float(), counts[None]


def affinities(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a voxel and the one before it along z, y, x are of one object.

    The first plane of each axis, and pairs with an unlabelled voxel, do not count.
    """
    same = torch.zeros((3, *labels.shape), dtype=torch.bool, device=labels.device)
    counts = torch.zeros_like(same)
    known = labels >= 0
    for axis in range(3):
        n = labels.shape[axis]
        left, right = labels.narrow(axis, 0, n - 1), labels.narrow(axis, 1, n - 1)
        same[axis].narrow(axis, 1, n - 1).copy_((left == right) & (right > 0))
        counts[axis].narrow(axis, 1, n - 1).copy_(
            known.narrow(axis, 0, n - 1) & known.narrow(axis, 1, n - 1)
        )
    return same.float(), counts

"""What is done voxel by voxel about a network: a few planes at a time, while they are in the cache.

A block's probabilities are hundreds of megabytes: to pass over all of them for each operation is to
wait for memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_VOXELS = 2**17  # at a time: of three classes, what a core's own cache and a share of the last hold


def by_planes(work: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
    """Return ``work(given)``, of (..., z, y, x), for work that sees each voxel by itself."""
    *_, planes, rows, columns = given.shape
    step = max(1, _VOXELS // max(1, rows * columns))
    if given.device.type != "cpu" or step >= planes:  # a GPU would rather have all at once
        return work(given)
    first = work(given[..., :step, :, :])
    out = first.new_empty((*first.shape[:-3], *given.shape[-3:]))
    out[..., :step, :, :] = first
    for start in range(step, planes, step):
        out[..., start : start + step, :, :] = work(given[..., start : start + step, :, :])
    return out


def probabilities_as_bytes(probabilities: Tensor) -> Tensor:
    """Probabilities in steps of 1/255."""
    return probabilities.mul(255).round_().to(torch.uint8)


def most_probable(probabilities: Tensor) -> Tensor:
    """Number of the most probable class of (sample, class, z, y, x), as its only channel."""
    return probabilities.argmax(1, keepdim=True).to(torch.uint8)

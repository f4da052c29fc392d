"""What a block holds in memory, found by a run on shapes alone.

A network's tensors are counted while it runs over torch's ``meta`` device, which holds no numbers,
trimmed as in earnest (:mod:`tessera.predict.trim`). What is live at the peak grows with the read
box, as the first layers do, and with the write box, as the last ones do: two runs tell how much
with each.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from tessera.nets.watch import Watch
from tessera.predict.trim import Spans, Trimmed, Untrimmable

_SIDES = (192, 384)  # of the write boxes that are looked at, in voxels
_BESIDE = 1.9  # what a layer holds of its own, and gaps in kept memory: up to this measured
_READING = 8.0  # bytes a voxel: the next block is read meanwhile


@dataclass(frozen=True)
class Memory:
    """Bytes of a block: so many a voxel of its read box, and so many a voxel of its write box."""

    read: float
    write: float

    def of(self, read: int, write: int) -> float:
        """Bytes that a block of so many voxels takes."""
        return self.read * read + self.write * write


def memory_of(net: nn.Module, halo: tuple[int, ...], align: tuple[int, ...]) -> Memory:
    """Find what a network's blocks take, in single precision.

    Args:
        net: in eval mode; it is left as it is.
        halo: voxels (z, y, x) of context on each side.
        align: what read boxes end at multiples of.
    """
    shapes = copy.deepcopy(net).to("meta")
    found = []
    for side in _SIDES:
        whole = [-(-side // a) * a for a in align]
        z, y, x = ((h, h + w) for h, w in zip(halo, whole, strict=True))
        read = [w + 2 * h for w, h in zip(whole, halo, strict=True)]
        found.append((math.prod(read), math.prod(whole), _peak(shapes, read, (z, y, x))))
    (read1, write1, peak1), (read2, write2, peak2) = found
    slope = read1 * write2 - read2 * write1
    if slope == 0:  # no halo: read boxes are write boxes
        return Memory(_BESIDE * peak2 / read2 + _READING, 0.0)
    by_read = (peak1 * write2 - peak2 * write1) / slope
    by_write = (peak2 * read1 - peak1 * read2) / slope
    return Memory(_BESIDE * max(by_read, 0.0) + _READING, _BESIDE * max(by_write, 0.0))


def _peak(net: nn.Module, read: list[int], wanted: Spans) -> float:
    """Most bytes that are live at a time while a network on ``meta`` runs over a read box."""
    tally = _Tally()
    with Watch(tally.saw):
        image = torch.empty((1, 1, *read), device="meta")
        try:
            Trimmed(net)(image, wanted)
        except Untrimmable:
            with torch.inference_mode():
                net(image)
    return tally.peak


class _Tally:
    """Adds up the storages that are live after each operation.

    Attributes:
        peak: the largest sum, in bytes.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def saw(self, function: Any, args: Any, out: Any) -> None:
        """Note what an operation made, and what is gone by now."""
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._live = {k: v for k, v in self._live.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))

"""Patch, batch, depth and strides for a volume and a machine, for a person to see and change.

Rules, in the spirit of nnU-Net (Isensee 2021, doi:10.1038/s41592-020-01008-z):

1. An axis is halved by the stem or a level only while its voxels are no more than 1.5 times as
   large as the finest, so that features become isotropic.
2. On a GPU the finest level has full resolution and there are as many levels as a patch of 96
   voxels feeds; on a CPU the stem halves first, which costs an eighth, and there are two levels.
3. The patch is as large as a cube of 64 (CPU) or 96 (GPU) voxels, but no side is longer than the
   volume, and each is a multiple of the network's grid; smaller where memory is short.
4. The batch is what a third of the memory holds, at most 2 on a CPU and 8 on a GPU.
5. A box with fewer planes than that grid is left to a network that sees each plane by itself, with
   as many planes in a batch as fit, at most 16 times that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tessera.errors import TesseraError
from tessera.nets.registry import build

_SIDE = {"cpu": 64, "gpu": 96}
_SMALLEST = 32
_MOST = {"cpu": 2, "gpu": 8}
_PLANES = 16  # for one sample in three dimensions
_COARSER = 1.5  # an axis this much coarser than the finest is not halved
_COPIES = 20  # of a level's features held in a step; measured peaks lie below


@dataclass(frozen=True)
class Suggestion:
    """Settings of a model, by their names in the config, and what follows from them.

    Attributes:
        net: the network.
        channels: features of each level.
        patch: (z, y, x) voxels.
        batch: samples a rank and step.
        net_options: stem and strides.
        halo_vox: context (z, y, x) that prediction will need about a block.
        memory_gib: what a step is expected to hold.
    """

    net: str
    channels: tuple[int, ...]
    patch: tuple[int, int, int]
    batch: int
    net_options: dict[str, Any]
    halo_vox: tuple[int, int, int]
    memory_gib: float


def suggest(
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    classes: int,
    memory_bytes: float,
    gpu: bool = False,
) -> Suggestion:
    """Return settings that fit.

    Args:
        shape: of the training box (z, y, x).
        voxel_um: voxel size (z, y, x).
        classes: number of output channels.
        memory_bytes: of the device, for one rank.
        gpu: whether the device is one.

    Raises:
        TesseraError: if not even one sample fits, or the box is too thin.
    """
    kind = "gpu" if gpu else "cpu"
    channels = (32, 64, 128, 256) if gpu else (24, 48)
    size = list(voxel_um)
    stem = (1, 1, 1) if gpu else _halve(size)
    strides = [_halve(size) for _ in channels[1:]]
    name, most = "unet3d", _MOST[kind]
    options: dict[str, Any] = {"stem": list(stem), "strides": [list(s) for s in strides]}
    if shape[0] < stem[0] * math.prod(s[0] for s in strides):
        name, most, options = "unet2d", _PLANES * _MOST[kind], {"stem": 1 if gpu else 2}
        stem, strides = (1, stem[1], stem[2]), [(1, 2, 2)] * len(strides)
    net = build(name, classes, channels, options)
    align, halo = net.align, net.halo
    assert isinstance(align, tuple) and isinstance(halo, tuple)
    cost = _bytes_a_voxel(channels, stem, strides, classes)
    side = _SIDE[kind]
    while True:
        patch = _patch(shape, voxel_um, align, side, flat=name == "unet2d")
        each = patch[0] * patch[1] * patch[2] * cost
        batch = min(most, int(memory_bytes / 3 // each))
        if batch or side <= _SMALLEST:
            break
        side -= 8
    if batch < 1:
        raise TesseraError(
            f"a sample of {patch} voxels needs {each / 2**30:.1f} GiB and a third of the device's "
            f"{memory_bytes / 2**30:.1f} GiB is less; give patch and channels yourself"
        )
    z, y, x = halo
    memory = round(batch * each / 2**30, 2)
    return Suggestion(name, channels, patch, batch, options, (z, y, x), memory)


def _halve(size: list[float]) -> tuple[int, int, int]:
    """Return the next strides, and coarsen ``size`` by them."""
    finest = min(size)
    steps = [2 if s <= _COARSER * finest else 1 for s in size]
    size[:] = [s * n for s, n in zip(size, steps, strict=True)]
    return steps[0], steps[1], steps[2]


def _patch(
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    align: tuple[int, ...],
    side: int,
    flat: bool = False,
) -> tuple[int, int, int]:
    """A box of about ``side`` cubed voxels, as near to a cube of tissue as its axes allow."""
    if any(n < a for n, a in zip(shape, align, strict=True)):
        raise TesseraError(
            f"a training box of {shape} voxels is thinner than the network's grid {align}; "
            "enlarge it"
        )
    mean = float(voxel_um[0] * voxel_um[1] * voxel_um[2]) ** (1 / 3)
    wanted = [side * mean / v for v in voxel_um]
    z, y, x = (
        max(a, int(min(w, n)) // a * a) for w, n, a in zip(wanted, shape, align, strict=True)
    )
    return (1, y, x) if flat else (z, y, x)


def _bytes_a_voxel(
    channels: tuple[int, ...],
    stem: tuple[int, int, int],
    strides: list[tuple[int, int, int]],
    classes: int,
) -> float:
    """Memory of a training step for one input voxel: features of all levels, logits, targets."""
    share = 1.0 / (stem[0] * stem[1] * stem[2])
    total = 16.0 * (classes + 1)
    for width, step in zip(channels, [(1, 1, 1), *strides], strict=True):
        share /= step[0] * step[1] * step[2]
        total += 4.0 * _COPIES * width * share
    return total

"""How large a compute block is: the least work that fits into memory.

A block is read with a halo as wide as the network's receptive field, and everything in the halo is
computed for the neighbour as well: with a halo of 24, a write box of 64^3 costs 5.4 voxels of
reading for one of writing, one of 192^3 costs 2. So a compute block is several shards, as many as
memory allows. It depends on the settings, the network and the volume alone, so every job of every
run takes the same.
"""

from __future__ import annotations

import itertools
import math

from torch import nn

from tessera.volume.box import Triple

_MOST_SHARDS = 8  # a compute block's shards along an axis
_LEAST_BLOCKS = 4  # so that ranks can share a small volume, too


def bytes_a_voxel(net: nn.Module, outputs: int) -> float:
    """Return about how many bytes of tensors live at a time, for each voxel of the read box.

    Measured on the networks of this package: five feature maps of the finest level (the skip, the
    two that are joined, the joined one and what comes of it), logits, probabilities and what is
    stored, and the image itself; all in single precision.
    """
    first = next((m for m in net.modules() if isinstance(m, nn.Conv3d)), None)
    coarse = math.prod(first.stride) if first is not None else 1
    features = first.out_channels if first is not None else outputs
    return 4.0 * (5 * features / coarse + 3 * outputs + 4)


def compute_block(
    shape: Triple, shard: Triple, halo: Triple, voxel_bytes: float, memory_gib: float
) -> Triple:
    """Return the write box of a compute block, in voxels (z, y, x): whole shards.

    Of all boxes whose read box fits into ``memory_gib`` the one with the fewest voxels read in all,
    and of those the smallest; a single shard if nothing fits.
    """
    counts = [-(-n // s) for n, s in zip(shape, shard, strict=True)]
    least = min(math.prod(counts), _LEAST_BLOCKS)
    best: tuple[float, ...] | None = None
    for factors in itertools.product(*(range(1, min(c, _MOST_SHARDS) + 1) for c in counts)):
        blocks = math.prod(-(-c // f) for c, f in zip(counts, factors, strict=True))
        write = [min(f * s, n) for f, s, n in zip(factors, shard, shape, strict=True)]
        read = math.prod(w + 2 * h for w, h in zip(write, halo, strict=True))
        if blocks < least or read * voxel_bytes > memory_gib * 2**30:
            continue
        work = math.prod(
            n + 2 * h * -(-c // f) for n, h, c, f in zip(shape, halo, counts, factors, strict=True)
        )
        key = (work, math.prod(factors), *factors)
        if best is None or key < best:
            best = key
    z, y, x = (int(f) for f in best[2:]) if best else (1, 1, 1)
    return Triple(z * shard[0], y * shard[1], x * shard[2])

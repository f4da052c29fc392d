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

from tessera.predict.memory import Memory
from tessera.volume.box import Triple

_MOST_SHARDS = 8  # a compute block's shards along an axis
_LEAST_BLOCKS = 4  # so that ranks can share a small volume, too,
_WORTH_SHARING = 256**3  # of so many voxels each; a smaller one takes a core's seconds


def compute_block(
    shape: Triple, shard: Triple, halo: Triple, memory: Memory, memory_gib: float
) -> Triple:
    """Return the write box of a compute block, in voxels (z, y, x): whole shards.

    Of all boxes that fit into ``memory_gib`` the one with the fewest voxels read in all, and of
    those the smallest; a single shard if nothing fits. Ranks share blocks, threads share the inside
    of one; so what ranks could share is cut once it is large, though more is computed twice then.
    """
    counts = [-(-n // s) for n, s in zip(shape, shard, strict=True)]
    least = min(math.prod(counts), _LEAST_BLOCKS, -(-math.prod(shape) // _WORTH_SHARING))
    best: tuple[float, ...] | None = None
    for factors in itertools.product(*(range(1, min(c, _MOST_SHARDS) + 1) for c in counts)):
        blocks = math.prod(-(-c // f) for c, f in zip(counts, factors, strict=True))
        write = [min(f * s, n) for f, s, n in zip(factors, shard, shape, strict=True)]
        read = math.prod(w + 2 * h for w, h in zip(write, halo, strict=True))
        if blocks < least or memory.of(read, math.prod(write)) > memory_gib * 2**30:
            continue
        work = math.prod(
            n + 2 * h * -(-c // f) for n, h, c, f in zip(shape, halo, counts, factors, strict=True)
        )
        key = (work, math.prod(factors), *factors)
        if best is None or key < best:
            best = key
    z, y, x = (int(f) for f in best[2:]) if best else (1, 1, 1)
    return Triple(z * shard[0], y * shard[1], x * shard[2])

"""One shard as bytes, as the Zarr 3 specification lays it out (``sharding_indexed``).

A shard is the compressed chunks one after the other, then an index of (offset, length) of each
chunk in C order, 64 bits each, and the index's crc32c. A chunk that is not there (all zeros, or
beyond the volume's edge) has both numbers at their largest. Here a chunk is its voxels in C order,
little endian, then zstd, then their crc32c.

zarr-python writes the same two to four times slower: its pipeline passes each chunk through
coroutines and threads. Chunks stand in C order here, so the same voxels are the same bytes.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import numpy as np

ZSTD_LEVEL = 3
_ABSENT = (2**64 - 1, 2**64 - 1)


def encode_shard(data: np.ndarray, chunk: Sequence[int], shard: Sequence[int]) -> bytes | None:
    """Return a shard's file, or None if it holds nothing but zeros and so has no file.

    Args:
        data: what the shard holds, (channel,) z, y, x; less than ``shard`` at the volume's edge,
            where it is filled up with zeros.
        chunk: size of a chunk along the same axes.
        shard: size of a full shard; a multiple of ``chunk``.
    """
    import google_crc32c
    from numcodecs.zstd import Zstd

    zstd = Zstd(level=ZSTD_LEVEL)
    little = data.dtype.newbyteorder("<")
    parts: list[bytes] = []
    index: list[tuple[int, int]] = []
    offset = 0
    for place in itertools.product(*(range(0, s, c) for s, c in zip(shard, chunk, strict=True))):
        inner = data[tuple(slice(a, a + c) for a, c in zip(place, chunk, strict=True))]
        if not inner.size or not inner.any():
            index.append(_ABSENT)
            continue
        if inner.shape != tuple(chunk):
            missing = [(0, c - n) for c, n in zip(chunk, inner.shape, strict=True)]
            inner = np.pad(inner, missing)
        packed = bytes(zstd.encode(np.ascontiguousarray(inner, dtype=little)))
        parts += [packed, struct.pack("<I", google_crc32c.value(packed))]
        index.append((offset, len(packed) + 4))
        offset += len(packed) + 4
    if not parts:
        return None
    table = np.array(index, "<u8").tobytes()
    return b"".join([*parts, table, struct.pack("<I", google_crc32c.value(table))])

"""One shard as bytes, as the Zarr 3 specification lays it out (``sharding_indexed``).

A shard is the compressed chunks one after the other, then an index of (offset, length) of each
chunk in C order, 64 bits each, and the index's crc32c. A chunk that is not there (all zeros, or
beyond the volume's edge) has both numbers at their largest. Here a chunk is its voxels in C order,
little endian, then zstd, then their crc32c. A shard of nothing but zeros is an index alone: it is
a file all the same, so that a file that is not there is always one that was lost.

zarr-python writes the same two to four times slower: its pipeline passes each chunk through
coroutines and threads. Chunks stand in C order here, so the same voxels are the same bytes.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# As small as with the usual 3, but for images of 8 bits (4 % larger), and up to six times as fast.
ZSTD_LEVEL = 1
_ABSENT = (2**64 - 1, 2**64 - 1)
_PAIR, _CRC = 16, 4  # bytes of an entry of the index, and of a checksum

Slices = tuple[slice, ...]


class DamagedShard(ValueError):
    """A shard's file is not as it was written."""


@functools.cache
def _zstd() -> Any:
    from numcodecs.zstd import Zstd

    return Zstd(level=ZSTD_LEVEL)


def encode_shard(data: np.ndarray, chunk: Sequence[int], shard: Sequence[int]) -> bytes:
    """Return a shard's file.

    Args:
        data: what the shard holds, (channel,) z, y, x; less than ``shard`` at the volume's edge,
            where it is filled up with zeros.
        chunk: size of a chunk along the same axes.
        shard: size of a full shard; a multiple of ``chunk``.
    """
    import google_crc32c

    zstd = _zstd()
    little = data.dtype.newbyteorder("<")
    parts: list[bytes] = []
    index: list[tuple[int, int]] = []
    offset = 0
    for place in _places(chunk, shard):
        inner = data[tuple(slice(a, a + c) for a, c in zip(place, chunk, strict=True))]
        # First of all: a network's classes lie side by side, and each look at one is slow there.
        inner = np.ascontiguousarray(inner, dtype=little)
        if not inner.any():
            index.append(_ABSENT)
            continue
        if inner.shape != tuple(chunk):
            missing = [(0, c - n) for c, n in zip(chunk, inner.shape, strict=True)]
            inner = np.pad(inner, missing)
        packed = bytes(zstd.encode(inner))
        parts += [packed, struct.pack("<I", google_crc32c.value(packed))]
        index.append((offset, len(packed) + _CRC))
        offset += len(packed) + _CRC
    table = np.array(index, "<u8").tobytes()
    return b"".join([*parts, table, struct.pack("<I", google_crc32c.value(table))])


def write_shard(file: Path, content: bytes) -> None:
    """Put a shard's file in place: a reader sees the old one or the new one, never half.

    One process writes a shard, so the name needs not be another each time, and what a kill leaves
    is written over.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, file)
    except OSError:  # a full disk needs the room
        partial.unlink(missing_ok=True)
        raise


def decode_shard(
    file: Path, box: Slices, out: np.ndarray, chunk: Sequence[int], shard: Sequence[int]
) -> None:
    """Read a part of a shard; only the chunks that it touches are read and unpacked.

    Args:
        file: the shard.
        box: the part, as slices (channel,) z, y, x within the shard.
        out: where it goes; of the part's shape and the volume's type.
        chunk, shard: as in :func:`encode_shard`.

    Raises:
        DamagedShard: if the file is torn, or a checksum is another.
        OSError: if it cannot be read; FileNotFoundError if it is not there.
    """
    with open(file, "rb", buffering=0) as opened:
        index = _index(
            opened.fileno(), math.prod(s // c for s, c in zip(shard, chunk, strict=True))
        )
        for (offset, length), place in zip(index, _places(chunk, shard), strict=True):
            part = [
                (max(a, s.start), min(a + c, s.stop))
                for a, c, s in zip(place, chunk, box, strict=True)
            ]
            if any(a >= b for a, b in part):
                continue
            target = out[
                tuple(slice(a - s.start, b - s.start) for (a, b), s in zip(part, box, strict=True))
            ]
            if (offset, length) == _ABSENT:
                target[...] = 0
                continue
            values = _chunk(opened.fileno(), offset, length, chunk, out.dtype)
            target[...] = values[
                tuple(slice(a - p, b - p) for (a, b), p in zip(part, place, strict=True))
            ]


def _places(chunk: Sequence[int], shard: Sequence[int]) -> itertools.product[tuple[int, ...]]:
    """Where each chunk of a shard begins, in C order."""
    return itertools.product(*(range(0, s, c) for s, c in zip(shard, chunk, strict=True)))


def _index(file: int, chunks: int) -> list[tuple[int, int]]:
    size = chunks * _PAIR + _CRC
    table = _checked(_range(file, os.fstat(file).st_size - size, size))
    return [(a, b) for a, b in struct.iter_unpack("<QQ", table)]


def _chunk(
    file: int, offset: int, length: int, chunk: Sequence[int], dtype: np.dtype[Any]
) -> np.ndarray:
    packed = _checked(_range(file, offset, length))
    try:
        values = np.frombuffer(_zstd().decode(packed), dtype.newbyteorder("<"))
        return values.reshape(chunk)
    except (RuntimeError, ValueError) as error:
        raise DamagedShard(f"a chunk cannot be unpacked ({error})") from None


def _range(file: int, offset: int, length: int) -> bytes:
    if offset < 0:
        raise DamagedShard("it is too short")
    parts = []
    while length and (piece := os.pread(file, length, offset)):
        parts.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    if length:
        raise DamagedShard("it is too short")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _checked(raw: bytes) -> bytes:
    """Return bytes without the crc32c that ends them."""
    import google_crc32c

    content, known = raw[:-_CRC], raw[-_CRC:]
    if len(known) != _CRC or struct.unpack("<I", known)[0] != google_crc32c.value(content):
        raise DamagedShard("a checksum is not that of the content")
    return content

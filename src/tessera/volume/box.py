"""Boxes of voxels, and the blocks that a volume is worked on in.

A *block* owns its *write box* and needs its *read box*::

    +---------------- read box -----------------+
    |   halo: real neighbouring voxels          |
    |     +----------- write box ---------+     |
    |     |  whole shards, owned by one   |     |
    |     |  block, written once          |     |
    |     +-------------------------------+     |
    +-------------------------------------------+

All coordinates are voxels in z, y, x order, half open: ``start <= voxel < stop``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Triple(NamedTuple):
    """Three integers in z, y, x order."""

    z: int
    y: int
    x: int


@dataclass(frozen=True, order=True, slots=True)
class Box:
    """A half-open box of voxels: ``start`` and ``stop`` are (z, y, x)."""

    start: Triple
    stop: Triple

    @classmethod
    def of(cls, start: tuple[int, ...], stop: tuple[int, ...]) -> Box:
        """Build a box from two (z, y, x) sequences."""
        return cls(Triple(*map(int, start)), Triple(*map(int, stop)))

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Box:
        """Return the box of a whole volume of this (z, y, x) shape."""
        return cls.of((0, 0, 0), shape)

    @property
    def shape(self) -> Triple:
        """Size in voxels (z, y, x); zero where the box is empty."""
        return Triple(*(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True)))

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def empty(self) -> bool:
        """True if the box holds no voxel."""
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices that index an array with the box."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def intersect(self, other: Box) -> Box:
        """Return the common part; empty if there is none."""
        return Box.of(
            tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True)),
            tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def contains(self, other: Box) -> bool:
        """True if every voxel of ``other`` lies in this box."""
        return other.empty or self.intersect(other) == other

    def grow(self, margin: tuple[int, int, int]) -> Box:
        """Return the box enlarged by ``margin`` (z, y, x) voxels at both ends of each axis."""
        return Box.of(
            tuple(a - m for a, m in zip(self.start, margin, strict=True)),
            tuple(b + m for b, m in zip(self.stop, margin, strict=True)),
        )

    def shift(self, by: tuple[int, ...]) -> Box:
        """Return the box moved by ``by`` (z, y, x) voxels."""
        return Box.of(
            tuple(a + d for a, d in zip(self.start, by, strict=True)),
            tuple(b + d for b, d in zip(self.stop, by, strict=True)),
        )

    def inside(self, other: Box) -> tuple[slice, slice, slice]:
        """Slices of this box within an array that holds exactly ``other``."""
        return self.shift(tuple(-a for a in other.start)).slices

    def __str__(self) -> str:
        return "[" + ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True)) + "]"


@dataclass(frozen=True, order=True, slots=True)
class Block:
    """One unit of work: its place in the grid, what it owns and what it needs."""

    index: Triple
    write: Box
    read: Box

    @property
    def name(self) -> str:
        """Place in the grid as ``z.y.x``, as it stands in records."""
        return ".".join(map(str, self.index))


@dataclass(frozen=True, slots=True)
class Grid:
    """All blocks of a volume, in z, y, x order, made on demand: 10**6 blocks cost nothing.

    Args:
        shape: the volume's size (z, y, x) in voxels.
        block: a write box's size (z, y, x); the last block of an axis may be smaller.
        halo: voxels (z, y, x) that a block needs beyond its write box, at both ends.
    """

    shape: Triple
    block: Triple
    halo: Triple = Triple(0, 0, 0)

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        block: tuple[int, ...],
        halo: tuple[int, ...] = (0, 0, 0),
    ) -> Grid:
        """Build a grid from plain (z, y, x) sequences."""
        if min(shape) < 1 or min(block) < 1 or min(halo) < 0:
            raise ValueError(f"no grid of blocks {block} with halo {halo} on a volume of {shape}")
        return cls(Triple(*map(int, shape)), Triple(*map(int, block)), Triple(*map(int, halo)))

    @property
    def counts(self) -> Triple:
        """Number of blocks along z, y, x."""
        return Triple(*(-(-n // b) for n, b in zip(self.shape, self.block, strict=True)))

    def __len__(self) -> int:
        z, y, x = self.counts
        return z * y * x

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(number)
        _, ny, nx = self.counts
        return self.at(Triple(number // (ny * nx), number // nx % ny, number % nx))

    def __iter__(self) -> Iterator[Block]:
        return (self.at(Triple(*i)) for i in itertools.product(*map(range, self.counts)))

    def at(self, index: tuple[int, int, int]) -> Block:
        """Return the block at a place (z, y, x) of the grid."""
        start = tuple(i * b for i, b in zip(index, self.block, strict=True))
        stop = tuple(min(a + b, n) for a, b, n in zip(start, self.block, self.shape, strict=True))
        write = Box.of(start, stop)
        return Block(Triple(*index), write, write.grow(self.halo))

    def number(self, index: tuple[int, int, int]) -> int:
        """Return a block's number in z, y, x order; the inverse of indexing."""
        _, ny, nx = self.counts
        return (index[0] * ny + index[1]) * nx + index[2]

    def batch(self, share: int, of: int) -> range:
        """Return the run of block numbers that batch ``share`` (from 0) of ``of`` does.

        The runs are contiguous, disjoint, cover all blocks and differ in length by one at most;
        there may be more batches than blocks, the last are then empty.
        """
        if not 0 <= share < of:
            raise ValueError(f"batch {share} of {of} does not exist")
        return range(len(self) * share // of, len(self) * (share + 1) // of)

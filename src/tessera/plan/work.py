"""One rule's work, as numbers that follow from the config and the headers of the data alone.

Nothing here walks over blocks: a volume of 10^6 blocks takes as long as one of ten.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tessera.volume.box import Triple

MIB = 1 << 20


@dataclass(frozen=True)
class Work:
    """What all jobs of one rule do.

    Attributes:
        rule: as in ``workflow/rules``; a rule that runs for several models or classes has one
            entry for each, told apart by ``of``.
        of: the model or ``model/class``; empty where there is but one.
        jobs: number of jobs.
        blocks: blocks (tiles, slabs, steps) of all jobs.
        largest: blocks of the largest job.
        units: how much is computed by all jobs, in ``unit``.
        unit: what is counted: ``Mvoxel``, ``Mpixel`` (of detector, times angles), ``GFLOP``,
            ``overlaps`` of two tiles.
        read: bytes read by all jobs.
        written: bytes written by all jobs that stay.
        files: files and folders made by all jobs that stay.
        held: bytes of arrays that one rank holds at a time.
        tasks, threads: ranks of a job and threads of each rank, as the rule stands.
        start: what a job loads before it works: ``arrays`` or ``torch``.
        batches: the setting that says how many jobs there are; empty where none does.
        size: the setting that makes files larger and fewer, or memory smaller; empty where none.
    """

    rule: str
    jobs: int
    blocks: int
    units: float
    unit: str
    of: str = ""
    largest: int = 0
    read: float = 0.0
    written: float = 0.0
    files: int = 0
    held: float = 0.0
    tasks: int = 1
    threads: int = 1
    start: str = "arrays"
    batches: str = ""
    size: str = ""

    @property
    def name(self) -> str:
        """Rule and, where there are several of it, for what."""
        return f"{self.rule} {self.of}".rstrip()

    @property
    def share(self) -> float:
        """Part of all units that the largest job does."""
        most = self.largest or math.ceil(self.blocks / self.jobs) if self.jobs else 0
        return most / self.blocks if self.blocks else 1.0 / max(self.jobs, 1)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def counts(shape: Sequence[int], block: Sequence[int]) -> Triple:
    """Number of blocks along z, y, x."""
    return Triple(*(-(-n // b) for n, b in zip(shape, block, strict=True)))


def blocks(shape: Sequence[int], block: Sequence[int]) -> int:
    """Number of blocks of a volume."""
    return math.prod(counts(shape, block))


def shard_files(shape: Sequence[int], shard: Sequence[int], channels: bool = False) -> int:
    """Files and folders of one resolution level: a file a shard, ``c/z/y/x`` as Zarr nests them."""
    z, y, x = counts(shape, shard)
    folders = 2 + z + z * y + (1 if channels else 0)  # the level, c, (channel), z, y
    return z * y * x + folders + 1  # zarr.json


def volume_files(
    shape: Sequence[int], shard: Sequence[int], levels: int = 1, channels: bool = False
) -> int:
    """Files and folders of a multiscale volume."""
    return 2 + sum(
        shard_files([-(-n // 2**level) for n in shape], shard, channels) for level in range(levels)
    )


def levels_bytes(voxels: float, item: float, levels: int) -> float:
    """Bytes of a volume with its coarser levels, each an eighth of the one before."""
    return voxels * item * sum(8.0**-level for level in range(levels))


def read_voxels(shape: Sequence[int], block: Sequence[int], halo: Sequence[int]) -> int:
    """Voxels of the volume in all read boxes together: write boxes with a halo at both ends.

    Args:
        shape: of the volume; ``block``: of a write box; ``halo``: voxels (z, y, x).
    """
    total = 1
    for n, b, h in zip(shape, block, halo, strict=True):
        # Of 2 h a block, h at either end of the axis lies beyond the volume.
        total *= n + 2 * h * -(-n // b) - 2 * min(h, n)
    return total


def kinds(
    shape: Sequence[int], block: Sequence[int], halo: Sequence[int]
) -> Iterator[tuple[Triple, Triple, Triple, int]]:
    """The different blocks of a grid: write box, context at its one and other end, how many.

    Beyond the volume is no context. What differs by being turned round is the same, and comes with
    the end that has less first.
    """
    axes = []
    for n, b, h in zip(shape, block, halo, strict=True):
        found: Counter[tuple[int, int, int]] = Counter()
        for start in range(0, n, b):
            stop = min(start + b, n)
            less, more = sorted((min(h, start), min(h, n - stop)))
            found[stop - start, less, more] += 1
        axes.append(found.items())
    for each in itertools.product(*axes):
        write, before, after = (Triple(*(one[0][i] for one in each)) for i in range(3))
        yield write, before, after, math.prod(one[1] for one in each)

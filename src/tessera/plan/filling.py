"""The work of a flood-filling network: filling subvolumes, and making objects of their fragments.

How many moves a fill makes depends on what is in the volume; here objects fill all of it, so that
is the most. Filling again from contacts (agglomeration) is taken as a quarter of that, as seen on
neuropil.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tessera import layout
from tessera.config import Config
from tessera.plan import work
from tessera.plan.network import Network
from tessera.plan.work import MIB, Work
from tessera.volume.subvolume import make_grid

_REFILL = 0.25  # of the moves of a fill
_LABEL = 0.05  # of the bytes of labels are left by zstd
_JOB_FILES = 3
_CANVAS = 4.0 + 4 + 4 + 1  # image, seed, ids, and what was reached: bytes a voxel


def fill(
    name: str, net: Network, config: Config, shape: Sequence[int], item: int
) -> Iterator[Work]:
    """The rules ``predict_store`` and ``predict`` of one model.

    Args:
        name: of the model; ``net``: its network.
        config: the settings.
        shape: of the volume (z, y, x); ``item``: bytes of its voxels.
    """
    settings = config.predict.fill
    z, y, x = shape
    grid = make_grid((z, y, x), settings.subvolume, settings.overlap_vox)
    batches, count = layout.fill_batches(config), len(grid)
    seen = work.read_voxels(shape, grid.block, grid.halo)
    fov = tuple(2 * h + 1 for h in net.halo)
    moves = len(settings.orders) * seen / math.prod(net.moves)
    held = math.prod(b + 2 * h for b, h in zip(grid.block, grid.halo, strict=True)) * _CANVAS
    held += math.prod(fov) * net.voxel_bytes
    common: dict[str, Any] = {"start": "torch", "size": "predict.fill.subvolume"}
    yield Work("predict_store", 1, 1, 0.0, "GFLOP", name, files=3, start="torch")
    yield Work(
        "predict", batches, count, moves * net.gflop(fov), "GFLOP", name,
        read=float(seen * item), written=4.0 * _LABEL * seen * len(settings.orders),
        files=_JOB_FILES * batches + 2 * count, held=held, batches="predict.batches", **common,
    )  # fmt: skip


def assemble(
    name: str, kind: str, net: Network, config: Config, shape: Sequence[int], item: int
) -> Iterator[Work]:
    """The rules that make objects of one class of the fragments; ``label_finish`` comes after."""
    settings, agglomerate = config.predict.fill, config.label.assembly.agglomerate
    z, y, x = shape
    grid = make_grid((z, y, x), settings.subvolume, settings.overlap_vox)
    batches, count, of = layout.fill_batches(config), len(grid), f"{name}/{kind}"
    voxels, seen = math.prod(shape), work.read_voxels(shape, grid.block, grid.halo)
    block = math.prod(b + 2 * h for b, h in zip(grid.block, grid.halo, strict=True)) * 20.0
    labels = 4.0 * _LABEL * voxels
    volume = work.volume_files(shape, grid.block)

    def one(rule: str, units: float, read: float = 0.0, written: float = 0.0) -> Work:
        return Work(
            rule, 1, count, units, "Mvoxel", of, read=read, written=written, files=2 + _JOB_FILES,
            held=64.0 * MIB,
        )  # fmt: skip

    def many(rule: str, units: float, written: float = 0.0, files: int = 0) -> Work:
        return Work(
            rule, batches, count, units, "Mvoxel", of, read=4.0 * _LABEL * seen, written=written,
            files=_JOB_FILES * batches + files, held=block, batches="predict.batches",
        )  # fmt: skip

    yield one("assemble_store", 0.0)
    yield many("assemble_match", seen / 1e6)
    yield one("assemble_merge", voxels / 1e6)
    yield many("assemble_relabel", voxels / 1e6, labels, volume)
    if agglomerate:
        yield one("fragments_finish", voxels / 1e6)
        yield many("contacts", voxels / 1e6)
        yield one("contacts_merge", voxels / 1e6)
        yield one("join_store", 0.0)
        yield many("join", voxels / 1e6, labels, volume)


def refill(name: str, filled: Work) -> Work:
    """The rule ``refill`` of one model: its fill's work, in part, once more."""
    return Work(
        "refill", filled.jobs, filled.blocks, filled.units * _REFILL, "GFLOP", name,
        read=filled.read, written=0.001 * filled.written, files=_JOB_FILES * filled.jobs,
        held=filled.held, start="torch", batches="predict.batches",
        size="predict.fill.subvolume",
    )  # fmt: skip

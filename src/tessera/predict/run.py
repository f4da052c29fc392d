"""Inference of one batch: read a block with its halo, run the network, write its voxels.

Reading and writing overlap the computing (see the engine). One process computes with the threads
it was given at its start. Each layer computes only what the write box depends on (see
:mod:`tessera.predict.trim`), so a voxel's value comes of the same sums whatever block it is in; the
order of a sum may follow a layer's size, so between block sizes single roundings may differ. In
fp32 on a CPU convolutions are by minimal filtering (see :mod:`tessera.predict.filtered`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tessera.compute.device import choose
from tessera.compute.ranks import rank_of
from tessera.config import VolumeSource
from tessera.errors import TesseraError
from tessera.nets.bundle import Bundle, load
from tessera.nets.norm import fold
from tessera.predict.halve import Halving
from tessera.predict.plan import Plan
from tessera.predict.planes import by_planes, most_probable, probabilities_as_bytes
from tessera.predict.trim import Spans, Trimmed, Untrimmable
from tessera.volume.box import Block, Box
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record
from tessera.volume.store import Volume, open_volume


class Predictor:
    """A network on a device: raw voxels of a read box in, probabilities out.

    Args:
        bundle: the network and its normalisation.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        augment: average over the eight reflections.
        local_rank: which GPU of the node, where there is one.
        kept: what is made of probabilities (sample, class, z, y, x), voxel by voxel.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "auto",
        augment: bool = False,
        local_rank: int = 0,
        kept: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float,
    ) -> None:
        self.bundle, self._kept = bundle, kept
        self.device = choose(precision, local_rank)
        self.net = fold(bundle.net).to(self.device.device)
        plain = not self.device.is_gpu and self.device.precision == "fp32"
        self._trimmed = _trimmed(self.net, filtered=plain)
        axes = (-3, -2, -1)
        self._turns = (
            [c for n in range(4) for c in itertools.combinations(axes, n)] if augment else [()]
        )

    def __call__(self, voxels: np.ndarray, wanted: Spans | None = None) -> np.ndarray:
        """Return what is kept of the probabilities (class, z, y, x) of raw voxels (z, y, x).

        Args:
            voxels: a read box. What lies beyond it is nothing to the network, as beyond a patch in
                training: a volume's edge, or as far off as it does not see.
            wanted: the part to return, as (start, stop) of each axis; None is all.
        """
        part: Spans = wanted or tuple((0, n) for n in voxels.shape)  # type: ignore[assignment]
        raw = torch.from_numpy(np.ascontiguousarray(voxels)).to(self.device.device)
        with torch.inference_mode(), self.device.autocast():
            image = by_planes(self.bundle.normalise, raw)[None, None]
            image = image.contiguous(memory_format=torch.channels_last_3d)
            made = self._kept_of(image, part)
            return np.asarray(made[0].cpu().numpy())

    def _kept_of(self, image: torch.Tensor, part: Spans) -> torch.Tensor:
        def kept(logits: torch.Tensor) -> torch.Tensor:
            return self._kept(self.bundle.probabilities(logits))

        if len(self._turns) == 1:
            return by_planes(kept, self._logits(image, part))
        total: Any = None
        for turn in self._turns:
            logits = self._logits(
                torch.flip(image, turn), _mirrored(part, turn, tuple(image.shape[2:]))
            )
            made = torch.flip(by_planes(self.bundle.probabilities, logits), turn)
            total = made if total is None else total.add_(made)
        mean: torch.Tensor = total.div_(len(self._turns))
        return by_planes(self._kept, mean)

    def _logits(self, image: torch.Tensor, wanted: Spans) -> torch.Tensor:
        if self._trimmed is not None and self._trimmed.sees(image.shape[2:], wanted):
            return self._trimmed(image, wanted)
        logits: torch.Tensor = self.net(image)
        (za, zb), (ya, yb), (xa, xb) = wanted
        return logits[..., za:zb, ya:yb, xa:xb]


def _trimmed(net: torch.nn.Module, filtered: bool) -> Trimmed | None:
    """The network as what computes only what is wanted; None if it has a layer that cannot."""
    try:
        return Trimmed(net, filtered, padded=True)
    except Untrimmable:
        return None


def _mirrored(spans: Spans, turn: tuple[int, ...], shape: tuple[int, ...]) -> Spans:
    """Where ``spans`` lie once the axes in ``turn`` are reflected."""
    z, y, x = (
        (n - b, n - a) if axis in turn else (a, b)
        for axis, (a, b), n in zip((-3, -2, -1), spans, shape, strict=True)
    )
    return z, y, x


def run(plan: Plan, batch: int, of: int, comm: Any | None = None, threads: int = 1) -> Record:
    """Predict the blocks of a batch.

    Args:
        plan: what ``tessera predict store`` laid out.
        batch, of: which batch of how many.
        comm: mpi4py communicator, or None.
        threads: of each rank.
    """
    torch.set_num_threads(threads)
    blocks = plan.blocks(batch, of)
    volume, store = open_volume(plan.volume), open_volume(plan.folder / plan.path)
    predictor = Predictor(
        load(plan.model), plan.settings.precision, plan.settings.augment, rank_of(comm),
        kept=probabilities_as_bytes if store.has_channels else most_probable,
    )  # fmt: skip
    mask = Mask(plan.settings.mask, volume) if plan.settings.mask else None

    kept_of = Halving(predictor, plan.align, plan.grid.halo)

    def compute(block: Block, voxels: np.ndarray | None) -> np.ndarray:
        if voxels is None:
            return np.zeros(_result_shape(store, block.write), np.uint8)
        made = kept_of(voxels, _wanted(block))
        return made if store.has_channels else made[0]

    def read(block: Block) -> np.ndarray | None:
        if mask and mask.outside(block.write):
            return None
        return volume.read(block.read, threads=threads)

    task = Task(
        read=read,
        compute=compute,
        write=lambda block, voxels: store.write(block.write, voxels, threads),
        files=lambda block: store.shard_files(block.write),
        name="predict, blocks",
    )
    record = plan.folder / "records" / f"{batch:04d}.json"
    return run_batch(task, blocks, record, plan.key, comm)


def _wanted(block: Block) -> Spans:
    """The write box within the read box."""
    z, y, x = ((s.start, s.stop) for s in block.write.inside(block.read))
    return z, y, x


def _result_shape(store: Volume, box: Box) -> tuple[int, ...]:
    return (len(store.channels), *box.shape) if store.has_channels else tuple(box.shape)


class Mask:
    """A volume that is zero where nothing is to be predicted; blocks all outside are skipped."""

    def __init__(self, source: VolumeSource, volume: Volume) -> None:
        from tessera.formats import open_source

        self._source = open_source(source)
        if self._source.shape != tuple(volume.shape):
            raise TesseraError(
                f"predict.mask: {source.path} is {self._source.shape} voxels but the volume "
                f"{tuple(volume.shape)}; give a mask of the same shape"
            )

    def outside(self, box: Box) -> bool:
        """True if no voxel of the box is inside the mask."""
        return not self._source.read(box).any()

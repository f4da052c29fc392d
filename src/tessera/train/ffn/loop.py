"""The loop of an FFN's training: one optimiser step a move of the field of view.

1. Every place of every rank's batch shows its present field of view.
2. Weighted sigmoid cross-entropy against soft targets; gradients are averaged over ranks, and
   meanwhile the answers go into the places' maps and the next fields of view are made ready.
3. Each element of the gradient is cut at +-0.7; one step of the optimiser; the moving average
   follows.
4. Now and then: a line of the curves, a validation, a checkpoint, which begins all examples anew.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tessera.compute import signals
from tessera.compute.device import Device
from tessera.compute.horovod import Team
from tessera.compute.progress import Progress
from tessera.config import Model
from tessera.errors import Requeue, WorkFailed
from tessera.nets.ffn import FFN
from tessera.train import checkpoint
from tessera.train.curves import Curves
from tessera.train.ffn.examples import Examples
from tessera.train.ffn.streams import Counts, Fill, Streams
from tessera.train.schedule import learning_rate, rank_factor
from tessera.train.state import State

_MOST = 0.7  # of any element of the gradient
_LOG_EVERY = 10
_VALIDATION_EXAMPLES = 16


@dataclass(frozen=True)
class Plan:
    """What does not change during a training.

    Attributes:
        settings: the model's section.
        key: hash of settings and data; a checkpoint with another key is not believed.
        folder: where the model goes.
    """

    settings: Model
    key: str
    folder: Path

    @property
    def checkpoint_file(self) -> Path:
        """Where the last checkpoint is."""
        return self.folder / "checkpoint" / "last.safetensors"


def train(
    plan: Plan,
    state: State,
    examples: Examples,
    validation: Examples | None,
    team: Team,
    device: Device,
) -> None:
    """Train from where ``state`` stands to the end of the plan.

    Raises:
        Requeue: the scheduler's signal came; the last checkpoint stands.
        WorkFailed: the loss is no longer a number.
    """
    settings, at, net = plan.settings, state.at, state.net
    assert isinstance(net, FFN)
    factor = rank_factor(settings.lr_scaling, team.size)
    curves = Curves(plan.folder, at.step) if team.is_root else None
    bar = Progress("train, moves", settings.steps, at.step) if team.is_root else None
    began, before, logged, moved = time.perf_counter(), at.seconds, time.perf_counter(), at.step

    def begin() -> Streams:
        return Streams(
            examples, net.fov, net.deltas, settings.batch, settings.seed, at.step, team.rank
        )

    streams = begin()
    with signals.listen() as warned:
        while at.step < settings.steps:
            rate = learning_rate(
                settings.learning_rate, settings.schedule, at.step, settings.steps, factor
            )
            stop = _step(plan, state, streams, team, device, rate, bool(warned))
            at.step += 1
            at.samples += settings.batch * team.size
            state.average()
            last = at.step == settings.steps
            if stop and not last:
                raise Requeue(
                    f"stopped on the scheduler's signal at step {at.step} of {settings.steps}; run "
                    "again to go on from the last checkpoint"
                )
            scores: dict[str, float] = {}
            if validation is not None and (last or at.step % settings.validate_every == 0):
                scores = validate(state.averaged, validation, team, device)
                state.keep_best(scores["validation_f1"])
            if scores or last or at.step % _LOG_EVERY == 0:
                counts = Counts.of(team.sum(streams.counts.tensor(), "counts"))
                streams.counts = Counts()
                now = time.perf_counter()
                at.seconds = before + now - began
                speed = (at.step - moved) * settings.batch * team.size / max(now - logged, 1e-9)
                logged, moved = now, at.step
                if curves:
                    line = {"seconds": round(at.seconds, 3), "loss": at.loss, "lr": rate}
                    line["samples_per_s"] = round(speed, 3)
                    curves.add(at.step, {**line, **counts.scores(), **scores})
            if bar:
                bar.step(note=f"loss {at.loss:.4f}")
            if last or at.step % settings.checkpoint_every == 0:
                if team.is_root:
                    checkpoint.write(plan.checkpoint_file, state.checkpoint(plan.key))
                streams = begin()
    if curves:
        curves.close()
    if bar:
        bar.finish(f"loss {at.loss:.4f}")


def loss_of(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean sigmoid cross-entropy over the voxels that somebody has looked at."""
    each = binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (each * weight).sum() / weight.sum().clamp_min(1)


def _step(
    plan: Plan,
    state: State,
    streams: Streams,
    team: Team,
    device: Device,
    rate: float,
    warned: bool,
) -> bool:
    """Do one move and one optimiser step; return whether any rank was told to stop."""
    net = state.net
    net.train()
    given, target, weight = (t.to(device.device) for t in streams.batch())
    given = given.contiguous(memory_format=torch.channels_last_3d)
    state.optimiser.zero_grad(set_to_none=True)
    with device.autocast():
        logits = net(given)
    loss = loss_of(logits, target, weight)
    answers = logits.detach()[:, 0].float().cpu()
    loss.backward()
    # One sum a step: each waits for Horovod's next look for work, and for the slowest rank.
    told = torch.stack([loss.detach(), loss.new_tensor(float(warned))])
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    averaged = team.begin_average([*grads, told], "gradients", plan.settings.compression)
    streams.accept(answers)  # moves, and what new examples take, while gradients travel
    averaged()
    state.at.loss = float(told[0])
    if not math.isfinite(state.at.loss):
        raise WorkFailed(
            f"the loss is not a finite number at step {state.at.step + 1}; look for voxels that "
            "are no numbers, or lower learning_rate"
        )
    nn.utils.clip_grad_value_(net.parameters(), _MOST)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    return float(told[1]) > 0


def validate(net: nn.Module, examples: Examples, team: Team, device: Device) -> dict[str, float]:
    """Fill the same examples of the validation boxes each time; ranks share them."""
    assert isinstance(net, FFN)
    counts = Counts()
    for number in range(team.rank, _VALIDATION_EXAMPLES, team.size):
        drawn, shuffled = np.random.SeedSequence([number]).spawn(2)
        fill = Fill(examples.draw(drawn), net.fov, net.deltas, np.random.default_rng(shuffled))
        while fill.next():
            given = fill.fields()[0][None].to(device.device)
            with torch.no_grad(), device.autocast():
                logits = net(given.contiguous(memory_format=torch.channels_last_3d))
            fill.accept(logits[0, 0].float().cpu())
        fill.count(counts)
    total = Counts.of(team.sum(counts.tensor(), "validation"))
    return {f"validation_{name}": value for name, value in total.scores().items()}

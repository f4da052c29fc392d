"""The training loop: what every rank does at every step.

1. Take the next samples, of which the numbers follow from the step and the rank.
2. Vary them, on the training device. A rank that has one core does so in the thread that reads
   ahead: it computes while this one waits for other ranks.
3. Forward, loss, backward; gradients are averaged over ranks.
4. One optimiser step; the moving average follows.
5. Now and then: a line of the curves, a validation, a checkpoint. Rank 0 alone writes.

Nothing here depends on the clock, so a killed and resumed training ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tessera.compute import signals
from tessera.compute.device import Device
from tessera.compute.horovod import Team
from tessera.compute.progress import Progress
from tessera.config import Model
from tessera.errors import Requeue, WorkFailed
from tessera.train import checkpoint
from tessera.train.augment import augment
from tessera.train.curves import Curves
from tessera.train.feed import Batch, Feed, read_batch
from tessera.train.losses import loss_of
from tessera.train.sampling import Sampler
from tessera.train.schedule import learning_rate, rank_factor
from tessera.train.state import State
from tessera.train.targets import activation, make_target
from tessera.train.validate import Validation

_LOG_EVERY = 10  # steps between lines of the curves
_MOST_NORM = 1.0  # gradients are clipped to this norm


@dataclass(frozen=True)
class Plan:
    """What does not change during a training.

    Attributes:
        settings: the model's section.
        outputs: number of output channels.
        equal_axes: axes that augmentation may exchange.
        class_weights: of the loss, or None.
        key: hash of settings and data; a checkpoint with another key is not believed.
        folder: where the model goes.
    """

    settings: Model
    outputs: int
    equal_axes: tuple[int, ...]
    class_weights: Tensor | None
    key: str
    folder: Path

    @property
    def checkpoint_file(self) -> Path:
        """Where the last checkpoint is."""
        return self.folder / "checkpoint" / "last.safetensors"


def train(
    plan: Plan,
    state: State,
    sampler: Sampler,
    validation: Validation,
    team: Team,
    device: Device,
    warned: signals.Warned,
) -> None:
    """Train from where ``state`` stands to the end of the plan; ``warned`` is the scheduler's.

    Raises:
        Requeue: the scheduler's signal came; the checkpoint is written.
        WorkFailed: the loss is no longer a number; the batch is saved.
    """
    settings, at = plan.settings, state.at
    global_batch = settings.batch * settings.accumulate * team.size
    factor = rank_factor(settings.lr_scaling, team.size)
    curves = Curves(plan.folder, at.step) if team.is_root else None
    bar = Progress("train, steps", settings.steps, at.step) if team.is_root else None
    numbers = _numbers(settings, team, at.step, at.samples)
    window = _Window(time.perf_counter(), at.seconds)

    def save() -> None:
        at.seconds = window.total()
        if team.is_root:
            checkpoint.write(plan.checkpoint_file, state.checkpoint(plan.key))

    with _batches(plan, sampler, numbers, device) as batches:
        while not finished(plan, state):
            rate = learning_rate(
                settings.learning_rate, settings.schedule, at.step, settings.steps, factor
            )
            stop = _step(plan, state, batches, team, device, rate, bool(warned), window)
            at.step += 1
            at.samples += global_batch
            state.average()
            last = at.step == settings.steps
            scores: dict[str, float] = {}
            if validation and (last or at.step % settings.validate_every == 0):
                scores = validation.run(state.averaged, device, team)
                state.keep_best(scores["score"])
            if curves and (scores or last or at.step % _LOG_EVERY == 0):
                curves.add(at.step, {**window.line(global_batch), "lr": rate, **scores})
            if bar:
                bar.step(note=f"loss {at.loss:.4f}")
            if stop or finished(plan, state) or at.step % settings.checkpoint_every == 0:
                save()
            if stop:
                raise Requeue(
                    f"stopped on the scheduler's signal at step {at.step} of {settings.steps}; the "
                    "checkpoint is written, run again to go on"
                )
    if curves:
        curves.close()
    if bar:
        bar.finish(f"loss {at.loss:.4f}")


def finished(plan: Plan, state: State) -> bool:
    """True if all steps are done, or validation has not improved for long enough."""
    patience = plan.settings.early_stop
    return state.at.step >= plan.settings.steps or (
        patience is not None and state.at.stale >= patience
    )


def _numbers(settings: Model, team: Team, step: int, first: int) -> Iterator[tuple[int, ...]]:
    """Numbers of this rank's samples, a batch at a time, to the end of the training."""
    batch, together = settings.batch, settings.batch * team.size
    for micro in range((settings.steps - step) * settings.accumulate):
        start = first + micro * together + team.rank * batch
        yield tuple(range(start, start + batch))


@contextmanager
def _batches(
    plan: Plan, sampler: Sampler, numbers: Iterator[tuple[int, ...]], device: Device
) -> Iterator[Iterator[Ready]]:
    """Iterate over batches, read ahead in a thread.

    A rank that has one core varies them there as well. More threads would wait for the one whose
    core does so, and a GPU does one thing after the other anyway.
    """

    def read(some: tuple[int, ...]) -> Batch:
        return read_batch(sampler, some, device.is_gpu)

    def vary(batch: Batch) -> Ready:
        return prepare(plan, sampler, batch, device)

    def read_and_vary(some: tuple[int, ...]) -> Ready:
        began = time.thread_time()
        ready = vary(read(some))
        return replace(ready, seconds_ahead=time.thread_time() - began)

    if not device.is_gpu and torch.get_num_threads() == 1:
        with Feed(numbers, read_and_vary) as made:
            yield iter(made)
    else:
        with Feed(numbers, read) as feed:
            yield map(vary, feed)


def _step(
    plan: Plan,
    state: State,
    batches: Iterator[Ready],
    team: Team,
    device: Device,
    rate: float,
    warned: bool,
    window: _Window,
) -> bool:
    """Do one optimiser step; return whether any rank was told to stop."""
    settings, net = plan.settings, state.net
    net.train()
    state.optimiser.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(settings.accumulate):
        began = time.perf_counter()
        batch = next(batches)
        window.feeding += time.perf_counter() - began + batch.seconds_ahead
        with device.autocast():
            logits = net(batch.image)
        loss = loss_of(
            logits,
            batch.target,
            batch.mask,
            settings.loss,
            activation(settings.target) == "softmax",
            plan.class_weights,
        )
        (loss / settings.accumulate).backward()
        total += loss.detach().double().cpu() / settings.accumulate
    told = team.sum(torch.stack([total, torch.tensor(float(warned), dtype=torch.float64)]), "told")
    state.at.loss = float(told[0]) / team.size
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    team.average(grads, "gradients", settings.compression)
    norm = nn.utils.clip_grad_norm_(net.parameters(), _MOST_NORM)
    if not (math.isfinite(state.at.loss) and bool(torch.isfinite(norm))):
        raise _lost(plan, state, batch, team)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    window.add(state.at.loss)
    return float(told[1]) > 0


@dataclass(frozen=True)
class Ready:
    """A batch as the network learns from it, on the training device.

    Attributes:
        image: (sample, 1, z, y, x).
        target: (sample, channel, z, y, x).
        mask: (sample, 1 or channel, z, y, x), true where a voxel counts.
        seconds_ahead: of a core, that were spent on it before it was asked for.
    """

    image: Tensor
    target: Tensor
    mask: Tensor
    seconds_ahead: float = 0.0


def prepare(plan: Plan, sampler: Sampler, batch: Batch, device: Device) -> Ready:
    """Bring a batch to the device, vary it, and make its target and mask."""
    images, targets, masks = [], [], []
    for image, labels, number in zip(batch.image, batch.labels, batch.numbers, strict=True):
        image = image.to(device.device, non_blocking=True)
        labels = labels.to(device.device, non_blocking=True)
        seed = int(sampler.seed_of(number).generate_state(1, "uint64")[0] >> 1)
        image, labels = augment(image, labels, plan.settings.augment, plan.equal_axes, seed)
        target, mask = make_target(labels, plan.settings.target, plan.outputs)
        images.append(image[None])
        targets.append(target)
        masks.append(mask)
    stacked = torch.stack(images).contiguous(memory_format=torch.channels_last_3d)
    return Ready(stacked, torch.stack(targets), torch.stack(masks))


def _lost(plan: Plan, state: State, batch: Ready, team: Team) -> WorkFailed:
    """Save the batch at which the loss was lost, and say so."""
    path = plan.folder / f"lost_batch_{team.rank}.safetensors"
    tensors = checkpoint.pack({"batch": {"image": batch.image, "target": batch.target}})
    checkpoint.write(path, checkpoint.Checkpoint(tensors, {"step": state.at.step}))
    return WorkFailed(
        f"the loss or its gradient is not a finite number at step {state.at.step + 1}; the batch "
        f"is kept in {path}: look for voxels that are no numbers, or lower learning_rate"
    )


@dataclass
class _Window:
    """What happened since the last line of the curves."""

    began: float
    before: float  # seconds of earlier runs
    losses: float = 0.0
    steps: int = 0
    feeding: float = 0.0
    since: float | None = None

    def add(self, loss: float) -> None:
        self.losses += loss
        self.steps += 1

    def total(self) -> float:
        return self.before + time.perf_counter() - self.began

    def line(self, global_batch: int) -> dict[str, float]:
        now = time.perf_counter()
        elapsed = now - (self.since or self.began)
        steps = max(self.steps, 1)
        out = {
            "seconds": round(self.total(), 3),
            "loss": self.losses / steps,
            "samples_per_s": round(self.steps * global_batch / max(elapsed, 1e-9), 4),
            "feed_share": round(self.feeding / max(elapsed, 1e-9), 4),
        }
        self.losses, self.steps, self.feeding, self.since = 0.0, 0, 0.0, now
        return out

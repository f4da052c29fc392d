"""``tessera train`` of a model whose net is ``ffn``; the arguments are those of any network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.config import Augment, Model
from tessera.errors import TesseraError

if TYPE_CHECKING:
    from tessera.compute.horovod import Team
    from tessera.train.ffn.loop import Plan
    from tessera.train.source import Source
    from tessera.train.state import State


def train_ffn(settings: Model, args: argparse.Namespace) -> int:
    """Train one flood-filling network; a run that was stopped goes on from its checkpoint."""
    if settings.weights is not None:
        return _take(settings, args)
    from tessera.compute import horovod

    team = horovod.join(args.ranks)
    try:
        run(settings, args.volume, args.truth, Path(args.out), team)
    finally:
        team.close()
    return 0


def _take(settings: Model, args: argparse.Namespace) -> int:
    """Published weights: nothing is trained, and rank 0 alone has something to do."""
    from tessera.compute.ranks import rank_of, world
    from tessera.train.source import read_volume_facts

    name = object_class(settings)
    if rank_of(world(args.ranks)) == 0:
        from tessera.nets.published import import_ffn

        assert settings.weights is not None
        import_ffn(
            Path(settings.weights),
            Path(args.out),
            name,
            settings.net_options,
            settings.weights_mean_std,
            tuple(read_volume_facts(args.volume)["voxel_um"]),
        )
    return 0


def object_class(settings: Model) -> str:
    """Return the one class whose objects are filled.

    Raises:
        TesseraError: if the config names none or several.
    """
    named = [c for c in settings.classes if c != "background"]
    if len(named) != 1:
        raise TesseraError(
            f"a flood-filling network fills the objects of one class, but classes names {named}; "
            "give classes: [background, neuron], say"
        )
    return named[0]


def run(settings: Model, volume: str, truth: str | None, out: Path, team: Team) -> None:
    """Train and write the bundle below ``out``; arguments as of :func:`tessera.train.command.run`.

    Raises:
        TesseraError: bad input, in one sentence.
    """
    import torch

    from tessera.compute import device as devices
    from tessera.nets import registry
    from tessera.nets.ffn import FFN
    from tessera.train import checkpoint
    from tessera.train.ffn import loop
    from tessera.train.ffn.examples import Examples
    from tessera.train.source import Region, open_data, resolve_all
    from tessera.train.state import State
    from tessera.volume.box import Box
    from tessera.volume.record import make_key

    object_class(settings)
    if settings.precision == "fp16":
        raise TesseraError("precision fp16 is for inference; train in bf16, fp32 or auto")
    threads = devices.set_threads(team.local_size)
    device = devices.choose(settings.precision, team.local_rank)
    if not device.is_gpu:  # which cores are near a GPU, its launcher knows
        team.keep_to_cores(threads)
    # Objects are kept apart by their ids, as for boundaries.
    source = open_data(settings.model_copy(update={"target": "boundaries"}), volume, truth)
    shape = source.volume.shape

    torch.manual_seed(settings.seed)
    net = registry.build("ffn", 1, (), settings.net_options)
    assert isinstance(net, FFN)
    net = net.to(device.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    z, y, x = (f + 2 * d for f, d in zip(net.fov, net.deltas, strict=True))
    patch = (z, y, x)
    sides = [(p, round(v, 4)) for p, v in zip(patch, source.volume.voxel_um, strict=True)]
    axes = tuple(axis for axis in range(3) if sides[axis] == sides[2])

    boxes = resolve_all(settings.split.train, shape, "train") or [Box.whole(shape)]
    regions = [Region(source, box, patch) for box in boxes]
    for region in regions:
        region.hold()
    digest = team.tell({str(r.box): r.digest() for r in regions} if team.is_root else None, "data")
    examples = Examples(regions, patch, settings.augment, axes)
    held_out = resolve_all(settings.split.validation, shape, "validation")
    validation = None
    if held_out:
        plain = Augment(symmetries=False, contrast=0, noise=0, blur=0, sharpen=0, warp=0)
        validation = Examples([Region(source, b, patch) for b in held_out], patch, plain, axes)

    key = make_key(settings=settings.model_dump(mode="json"), volume=source.digest, labels=digest)
    plan = loop.Plan(settings, key, out)
    state = State(net, settings.ema)
    found = checkpoint.read(plan.checkpoint_file)
    if found is not None and found.meta["key"] == plan.key:
        state.restore(found)
    state.start_alike(team)
    if team.is_root:
        weights = sum(p.numel() for p in net.parameters())
        begun = f", going on from step {state.at.step}" if state.at.step else ""
        print(
            f"train: ffn, {weights:,} weights, {examples.partitions} partitions; {device.device}, "
            f"{device.precision}, {team.size} ranks x {threads} threads; {settings.steps} steps of "
            f"{settings.batch * team.size} fields of view{begun}",
            file=sys.stderr,
            flush=True,
        )
    loop.train(plan, state, examples, validation, team, device)
    if team.is_root:
        _export(plan, state, source, digest)
    team.barrier()


def _export(plan: Plan, state: State, source: Source, digest: dict[str, str]) -> None:
    """Write the bundle of the best validated weights, else of the last average."""
    from tessera.nets import bundle
    from tessera.nets.ffn import FFN

    settings, at, net = plan.settings, state.at, state.chosen()
    assert isinstance(net, FFN)
    facts = bundle.Facts(
        net={"name": "ffn", "channels": [], "options": dict(settings.net_options)},
        classes=(object_class(settings),),
        activation="sigmoid",
        normalisation={"mean": source.mean, "std": source.std},
        voxel_um=source.volume.voxel_um,
        halo_vox=net.halo,
        align_vox=net.align,
        training={
            "steps": at.best_step or at.step,
            "samples": at.samples,
            "loss": at.loss,
            "best_validation": at.best,
            "settings": settings.model_dump(mode="json"),
        },
        data={"volume": source.digest, "labels": digest},
    )
    bundle.save(plan.folder, net.state_dict(), facts)

"""``tessera train``: the same command for one process and for N Horovod ranks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.arguments import add_ranks, add_settings, model_section
from tessera.compute.heap import keep_freed
from tessera.config import Model
from tessera.errors import TesseraError

if TYPE_CHECKING:
    from tessera.compute.device import Device
    from tessera.compute.horovod import Team
    from tessera.compute.signals import Warned
    from tessera.train.sampling import Census
    from tessera.train.source import Lesson, Region, Source
    from tessera.train.state import State
    from tessera.train.validate import Validation


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="the model's name under models")
    add_settings(parser)
    parser.add_argument("--volume", required=True, metavar="JSON", help="mosaic's volume.json")
    parser.add_argument("--truth", metavar="ZARR", help="class volume, where no labels are given")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the bundle")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="JSON",
        help="volume.json of each further labelled volume, in the config's order",
    )
    parser.add_argument(
        "--member",
        action="append",
        default=[],
        metavar="DIR",
        help="bundle of an ensemble's member",
    )
    add_ranks(parser)


def main(args: argparse.Namespace) -> int:
    """Train one model; a run that was stopped goes on from its checkpoint."""
    keep_freed()
    settings = model_section(args, args.model)
    if settings.ensemble:
        return _join(settings, args)
    if settings.bundle:
        return _adopt(settings, args)
    if settings.net == "ffn":
        from tessera.train.ffn.command import train_ffn

        return train_ffn(settings, args)
    from tessera.compute import horovod, signals

    with signals.listen() as warned:  # from the start: a signal while ranks meet is heard, too
        team = horovod.join(args.ranks)
        try:
            run(settings, args.volume, args.truth, Path(args.out), team, warned, args.also)
        finally:
            team.close()
    return 0


def _join(settings: Model, args: argparse.Namespace) -> int:
    """An ensemble: nothing is trained, and rank 0 alone has something to do."""
    from tessera.compute.ranks import rank_of, world

    if len(args.member) != len(settings.ensemble):
        raise TesseraError(
            f"model {args.model} is the ensemble of {', '.join(settings.ensemble)}; give the "
            "folder of each one's bundle with --member"
        )
    if rank_of(world(args.ranks)) == 0:
        from tessera.nets.join import join

        join(args.member, args.out)
    return 0


def _adopt(settings: Model, args: argparse.Namespace) -> int:
    """A model trained elsewhere: nothing is trained, and rank 0 alone has something to do."""
    from tessera.compute.ranks import rank_of, world

    if rank_of(world(args.ranks)) == 0:
        from tessera.nets.adopt import adopt
        from tessera.train.source import read_volume_facts

        assert settings.bundle is not None
        voxel_um = read_volume_facts(args.volume)["voxel_um"]
        adopt(settings.bundle, args.out, settings.classes, voxel_um)
    return 0


def run(
    settings: Model,
    volume: str,
    truth: str | None,
    out: Path,
    team: Team,
    warned: Warned | None = None,
    others: Sequence[str] = (),
) -> None:
    """Train and write the bundle below ``out``.

    Args:
        settings: the model's section.
        volume: path of ``volume.json``.
        truth: class volume, used if the settings name no labels.
        out: folder of the bundle.
        team: ranks that train together.
        warned: true once the scheduler asked to leave; None never is.
        others: ``volume.json`` of each of the settings' further volumes.

    Raises:
        TesseraError: bad input, in one sentence.
    """
    import torch

    from tessera.compute import device as devices
    from tessera.compute.signals import Warned as Never
    from tessera.nets import registry
    from tessera.nets.unet3d import still
    from tessera.train import checkpoint, loop
    from tessera.train.export import export
    from tessera.train.sampling import Sampler
    from tessera.train.source import open_lessons
    from tessera.train.state import State
    from tessera.train.targets import output_classes

    if settings.precision == "fp16":
        raise TesseraError("precision fp16 is for inference; train in bf16, fp32 or auto")
    threads = devices.set_threads(team.local_size)
    device = devices.choose(settings.precision, team.local_rank)
    if not device.is_gpu:  # which cores are near a GPU, its launcher knows
        team.keep_to_cores(threads)
    own, lessons = open_lessons(settings, volume, truth, others)
    classes = output_classes(settings.target, settings.classes)

    torch.manual_seed(settings.seed)
    net = registry.build(settings.net, len(classes), settings.channels, settings.net_options)
    still(net)
    _check_patch(settings, net)
    net = net.to(device.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    regions = {
        f"{lesson.name} {region.box}".strip(): region
        for lesson in lessons
        for region in lesson.regions("train", settings.patch)
    }
    held = [region.hold() for region in regions.values()]
    census, digests = team.from_root(lambda: _survey(settings, regions), "census")
    validation = _scored(settings, lessons, "validation", net.align)
    facts = {
        "volume": own.digest,
        "labels": digests,
        "volumes": [lesson.source.digest for lesson in lessons if lesson.name],
    }
    plan = loop.Plan(
        settings,
        len(classes),
        _equal_axes(settings, [lesson.source for lesson in lessons]),
        _class_weights(settings, census, device),
        _key(settings, facts),
        out,
    )
    state = State(net, settings.ema)
    found = checkpoint.read(plan.checkpoint_file)
    if found is not None and found.meta["key"] == plan.key:
        state.restore(found)
    state.start_alike(team)
    _share_norms(state, team)
    if team.is_root:
        _say(settings, state, device, team, threads, all(held))
    sampler = Sampler(list(regions.values()), census, settings.patch, settings.seed)
    loop.train(
        plan, state, sampler, validation, team, device, Never() if warned is None else warned
    )
    # The workflow evaluates the specimen's own test boxes; nobody else looks at those of others.
    tests = {
        lesson.name: _scored(settings, [lesson], "test", net.align).run(
            state.chosen(), device, team
        )
        for lesson in lessons
        if lesson.name and lesson.split.test
    }
    if team.is_root:
        export(plan, state, own, facts, classes, tests)
    team.barrier()


def _scored(
    settings: Model, lessons: Sequence[Lesson], use: str, align: tuple[int, int, int]
) -> Validation:
    """The boxes of one use, to score networks on."""
    from tessera.train.targets import output_classes
    from tessera.train.validate import Validation

    return Validation(
        [region for lesson in lessons for region in lesson.regions(use, settings.patch)],
        settings.patch,
        output_classes(settings.target, settings.classes),
        settings.target,
        align,
    )


def _survey(settings: Model, regions: Mapping[str, Region]) -> tuple[Census, dict[str, str]]:
    """Count the classes, once for all ranks, and hash the labels."""
    from tessera.train.sampling import take_census

    kinds = len(settings.classes) if settings.target in ("classes", "multilabel") else 1
    census = take_census(list(regions.values()), kinds, bits=settings.target == "multilabel")
    if kinds > 1:
        lacking = [c for c, n in zip(settings.classes, census.voxels, strict=True) if n == 0]
        if lacking:
            raise TesseraError(
                f"the training boxes hold no voxel of {', '.join(lacking)}; enlarge them, or take "
                "the class out of the config"
            )
    elif census.voxels.sum() == 0:
        raise TesseraError("the training boxes hold no labelled voxel; enlarge them")
    return census, {name: region.digest() for name, region in regions.items()}


def _check_patch(settings: Model, net: Any) -> None:
    if any(p % a for p, a in zip(settings.patch, net.align, strict=True)):
        raise TesseraError(
            f"patch {settings.patch} is not a multiple of the network's grid {tuple(net.align)}; "
            "change patch, or the strides in net_options"
        )


def _equal_axes(settings: Model, sources: Sequence[Source]) -> tuple[int, ...]:
    """Axes that may be exchanged: those of x's patch size and, in all volumes, voxel size."""
    sides = [
        (settings.patch[axis], *(round(s.volume.voxel_um[axis], 4) for s in sources))
        for axis in range(3)
    ]
    return tuple(axis for axis in range(3) if sides[axis] == sides[2])


def _class_weights(settings: Model, census: Census, device: Device) -> Any:
    import torch

    from tessera.train.losses import median_frequency

    if settings.class_weights == "none" or len(census.voxels) == 1:
        return None
    weights = median_frequency(census.voxels)
    return torch.tensor(weights, dtype=torch.float32, device=device.device)


def _key(settings: Model, facts: dict[str, Any]) -> str:
    """Hash of all that the weights depend on, but for the number of ranks and steps of saving."""
    from tessera.volume.record import make_key

    kept = settings.model_dump(mode="json", exclude={"checkpoint_every"})
    return make_key(settings=kept, **facts)


def _share_norms(state: State, team: Team) -> None:
    from tessera.nets import norm

    if team.size > 1:
        # A name keeps its size: Horovod negotiates anew what has changed under a known name.
        norm.share(state.net, lambda t: team.sum(t, f"norm.{t.numel()}"))


def _say(
    settings: Model, state: State, device: Device, team: Team, threads: int, held: bool
) -> None:
    """One line about what begins."""
    weights = sum(p.numel() for p in state.net.parameters())
    where = f"{device.device}, {device.precision}, {team.size} ranks x {threads} threads"
    begun = f", going on from step {state.at.step}" if state.at.step else ""
    disk = "" if held else ", samples read from disk"
    print(
        f"train: {settings.net}, {weights:,} weights; {where}; {settings.steps} steps of "
        f"{settings.batch * settings.accumulate * team.size} samples{disk}{begun}",
        file=sys.stderr,
        flush=True,
    )

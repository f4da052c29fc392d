"""From the end of a training to the bundle that is handed on."""

from __future__ import annotations

import copy
from typing import Any

from tessera.nets import bundle, norm
from tessera.train.loop import Plan
from tessera.train.source import Source
from tessera.train.state import State
from tessera.train.targets import activation


def export(
    plan: Plan,
    state: State,
    source: Source,
    data: dict[str, Any],
    classes: tuple[str, ...],
    tests: dict[str, dict[str, float]],
) -> None:
    """Write the bundle, and beside it the last weights if they are not the best.

    Args:
        plan: of the training.
        state: at its end.
        source: the specimen's volume, whose normalisation the bundle keeps.
        data: digests of all that was learned from.
        classes: of the output channels.
        tests: scores on the test boxes of further volumes, by the volume's name.
    """
    settings, at = plan.settings, state.at
    options = {**settings.net_options, "norm": "none"}  # folded into the convolutions

    def facts(step: int) -> bundle.Facts:
        return bundle.Facts(
            net={"name": settings.net, "channels": list(settings.channels), "options": options},
            classes=classes,
            activation=activation(settings.target),
            normalisation=source.normalisation,
            voxel_um=source.volume.voxel_um,
            halo_vox=state.net.halo,  # type: ignore[arg-type]
            align_vox=state.net.align,  # type: ignore[arg-type]
            training={
                "steps": step,
                "samples": at.samples * step // max(at.step, 1),
                "loss": at.loss,
                "best_validation": at.best,
                **({"test": tests} if tests else {}),
                "settings": settings.model_dump(mode="json", exclude={"checkpoint_every"}),
            },
            data=data,
        )

    best = norm.fold(state.chosen())
    bundle.save(plan.folder, best.state_dict(), facts(at.best_step or at.step))
    if state.best:
        last = norm.fold(copy.deepcopy(state.averaged))
        bundle.save(plan.folder / "last", last.state_dict(), facts(at.step))

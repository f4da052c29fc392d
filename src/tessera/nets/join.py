"""Several bundles made one: an ensemble, which is a bundle like another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tessera.errors import TesseraError
from tessera.nets import bundle
from tessera.nets.registry import build

_ALIKE = ("classes", "activation", "voxel_um")


def join(folders: Sequence[str | Path], out: str | Path) -> str:
    """Write the ensemble of some bundles; return its digest.

    Args:
        folders: bundles of the same classes, in the order in which they are summed.
        out: folder of the new one.

    Raises:
        TesseraError: if a bundle cannot be read, or they do not speak of the same things.
    """
    members = [bundle.load(folder) for folder in folders]
    if not members:
        raise TesseraError(f"{out}: an ensemble has at least one member; name some bundles")
    first = members[0].facts
    for folder, member in zip(folders, members, strict=True):
        for name in _ALIKE:
            if getattr(member.facts, name) != getattr(first, name):
                raise TesseraError(
                    f"{folder}: its {name} are {getattr(member.facts, name)} but those of "
                    f"{folders[0]} {getattr(first, name)}; join models of one kind of data"
                )
    mean, std = first.normalisation["mean"], first.normalisation["std"]
    parts: list[dict[str, Any]] = []
    weights: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        own = member.facts.normalisation
        parts.append(
            {
                **member.facts.net,
                "scale": std / own["std"],
                "shift": (mean - own["mean"]) / own["std"],
            }
        )
        weights |= {f"nets.{number}.{k}": v for k, v in member.net.state_dict().items()}
    options = {"members": parts, "activation": first.activation}
    net = build("ensemble", len(first.classes), (), options)
    bundle.fit(net, weights, str(out))
    facts = replace(
        first,
        net={"name": "ensemble", "channels": [], "options": options},
        halo_vox=net.halo,  # type: ignore[arg-type]
        align_vox=net.align,  # type: ignore[arg-type]
        training={"members": [m.digest for m in members]},
        data={str(n): m.facts.data for n, m in enumerate(members)},
    )
    return bundle.save(out, net.state_dict(), facts)

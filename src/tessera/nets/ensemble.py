"""Several trained networks as one: the mean of what they say (Lakshminarayanan 2017,
arXiv:1612.01474).

An ensemble is a network like another, with a receptive field as wide as its widest member's, so
that bundles, blocks and whatever reads them need to know nothing of it. Its logits are those of the
members' mean probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tessera.nets import registry
from tessera.nets.unet3d import Size, triple

_LEAST = 1e-7  # of a probability, so that its logarithm is a number


@dataclass(frozen=True)
class Member:
    """What the options of an ensemble say of one network.

    Attributes:
        name, channels, options: what the registry builds.
        scale, shift: what turns the ensemble's input into the member's (normalisations may differ).
    """

    name: str
    channels: Sequence[int]
    options: Mapping[str, Any]
    scale: float = 1.0
    shift: float = 0.0


class Ensemble(nn.Module):
    """Mean of networks; input (sample, 1, z, y, x), output logits (sample, outputs, z, y, x).

    Args:
        outputs: number of output channels, of each member.
        channels: of no meaning here; members have their own.
        members: the networks, as :class:`Member` or its parts.
        activation: ``softmax`` or ``sigmoid``: what turns a member's logits into probabilities.
    """

    def __init__(
        self,
        outputs: int,
        channels: Sequence[int],
        members: Sequence[Mapping[str, Any]],
        activation: str,
    ) -> None:
        super().__init__()
        if activation not in ("softmax", "sigmoid"):
            raise ValueError(f"activation is 'softmax' or 'sigmoid', not {activation!r}")
        if not members:
            raise ValueError("an ensemble has at least one member")
        parts = [Member(**m) for m in members]
        self.nets = nn.ModuleList(
            registry.build(m.name, outputs, m.channels, dict(m.options)) for m in parts
        )
        self._inputs = [(float(m.scale), float(m.shift)) for m in parts]
        self._softmax = activation == "softmax"
        grids: list[Size] = [net.align for net in self.nets]  # type: ignore[misc]
        halos: list[Size] = [net.halo for net in self.nets]  # type: ignore[misc]
        self.align: Size = triple([math.lcm(*along) for along in zip(*grids, strict=True)])
        far = [max(along) for along in zip(*halos, strict=True)]
        self.halo: Size = triple([-(-f // a) * a for f, a in zip(far, self.align, strict=True)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; each axis of ``x`` must be a multiple of ``align``."""
        total = self._probability(0, x)
        for number in range(1, len(self._inputs)):
            total = total + self._probability(number, x)
        mean = torch.clamp(total / len(self._inputs), _LEAST, 1 - _LEAST)
        return torch.log(mean) if self._softmax else torch.logit(mean)

    def _probability(self, number: int, x: Tensor) -> Tensor:
        scale, shift = self._inputs[number]
        if (scale, shift) != (1.0, 0.0):
            x = x * scale + shift
        logits = self.nets[number](x)
        return torch.softmax(logits, 1) if self._softmax else torch.sigmoid(logits)

"""Everything that changes while a network trains, and how it goes into a checkpoint and back."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from tessera.compute.horovod import Team
from tessera.train.checkpoint import Checkpoint, optimiser_state, pack, restore_optimiser


@dataclass
class Position:
    """Where a training stands.

    Attributes:
        step: optimiser steps done.
        samples: samples seen by all ranks together; the next sample has this number.
        best: best validation score so far, and the step it was reached at.
        stale: validations since then.
        loss: of the last step.
        seconds: spent so far; of no influence on anything.
    """

    step: int = 0
    samples: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    loss: float = 0.0
    seconds: float = 0.0


class State:
    """The network that is trained, its moving average, its best, and the optimiser.

    Args:
        net: with fresh weights, on its device.
        ema: decay of the moving average; 0 follows the network itself.
    """

    def __init__(self, net: nn.Module, ema: float) -> None:
        self.net = net
        self.averaged = copy.deepcopy(net).eval().requires_grad_(False)
        self.ema = ema
        self.optimiser = optim.Adam(net.parameters(), lr=0.0)
        self.best: dict[str, Tensor] = {}
        self.at = Position()

    @torch.no_grad()
    def average(self) -> None:
        """Move the average towards the network; fast at first, when the weights are far off."""
        step = self.at.step
        part = 1 - min(self.ema, (1 + step) / (10 + step))
        for own, new in zip(self._floats(self.averaged), self._floats(self.net), strict=True):
            own.lerp_(new, part)

    def keep_best(self, score: float) -> None:
        """Note a validation; keep the averaged weights if it is the best so far."""
        if self.at.best is None or score > self.at.best:
            self.at.best, self.at.best_step, self.at.stale = score, self.at.step, 0
            self.best = {k: v.detach().clone() for k, v in self.averaged.state_dict().items()}
        else:
            self.at.stale += 1

    def chosen(self) -> nn.Module:
        """Return a copy of the network to hand on: the best validated, else the last average."""
        net = copy.deepcopy(self.averaged)
        if self.best:
            net.load_state_dict(self.best)
        return net

    def start_alike(self, team: Team) -> None:
        """Give every rank the weights, statistics and optimiser state of rank 0."""
        tensors = [*self.net.state_dict().values(), *self.averaged.state_dict().values()]
        state = optimiser_state(self.optimiser, self.net)
        tensors += [state[name] for name in sorted(state)]
        team.broadcast(tensors, "state")

    def checkpoint(self, key: str) -> Checkpoint:
        """Return all of it; ``key`` says which training it belongs to."""
        tensors = pack(
            {
                "net": self.net.state_dict(),
                "averaged": self.averaged.state_dict(),
                "best": self.best,
                "optimiser": optimiser_state(self.optimiser, self.net),
            }
        )
        return Checkpoint(tensors, {"key": key, "position": vars(self.at)})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put everything back as it was."""
        self.net.load_state_dict(checkpoint.part("net"))
        self.averaged.load_state_dict(checkpoint.part("averaged"))
        self.best = checkpoint.part("best")
        restore_optimiser(self.optimiser, self.net, checkpoint.part("optimiser"))
        position: dict[str, Any] = checkpoint.meta["position"]
        self.at = Position(**position)

    @staticmethod
    def _floats(net: nn.Module) -> list[Tensor]:
        return [t for t in net.state_dict().values() if t.is_floating_point()]

"""Streams: each place in a batch fills one example after another, one field of view a step.

The field of view begins in the middle of the patch and is then shifted to up to 26 neighbours, in
random order, to each one that the network by then holds for part of the object. What the network
said stays in the patch's map, so it learns to go on from its own answers, not from the truth
(Januszewski 2018, doi:10.1038/s41592-018-0049-4).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tessera.train.ffn.examples import Example, Examples

SOFT_INSIDE, SOFT_OUTSIDE = 0.95, 0.05  # targets; the outside one is the pad of the seed as well
MOVE, SEGMENT = 0.9, 0.6  # probabilities, as at inference


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


@dataclass
class Counts:
    """Sums over examples that ended: of moves and of voxels of their patches."""

    examples: float = 0.0
    moves: float = 0.0
    true: float = 0.0
    found: float = 0.0
    both: float = 0.0

    def tensor(self) -> Tensor:
        """Return the sums as float64, for the sum over ranks."""
        return torch.tensor([getattr(self, f.name) for f in fields(self)], dtype=torch.float64)

    @classmethod
    def of(cls, sums: Tensor) -> Counts:
        """Take sums back from :meth:`tensor`."""
        return cls(*(float(v) for v in sums))

    def scores(self) -> dict[str, float]:
        """Return moves an example, and precision, recall and F1 of the filled objects' voxels."""
        precision = self.both / self.found if self.found else 0.0
        recall = self.both / self.true if self.true else 0.0
        f1 = 2 * self.both / (self.found + self.true) if self.found + self.true else 0.0
        moves = self.moves / self.examples if self.examples else 0.0
        return {"moves": moves, "precision": precision, "recall": recall, "f1": f1}


class Fill:
    """One example being filled.

    Args:
        example: image, object, and what is known of it.
        fov, deltas: the network's geometry (z, y, x).
        random: shuffles the shifts.
    """

    def __init__(
        self,
        example: Example,
        fov: tuple[int, int, int],
        deltas: tuple[int, int, int],
        random: np.random.Generator,
    ) -> None:
        self.example, self._fov = example, fov
        self._middle = tuple(n // 2 for n in example.image.shape)
        self.seed = torch.full(example.image.shape, _logit(SOFT_OUTSIDE))
        self.seed[self._middle] = _logit(SOFT_INSIDE)
        shifts = list(itertools.product(*((-d, 0, d) if d else (0,) for d in deltas)))
        shifts.remove((0, 0, 0))
        random.shuffle(shifts)
        self._shifts: Iterator[tuple[int, ...]] = iter([(0, 0, 0), *shifts])
        self.moves = 0
        self._window: tuple[slice, ...] = ()

    def next(self) -> bool:
        """Go to the next field of view that the object reaches; False if there is none."""
        for shift in self._shifts:
            at = tuple(m + s for m, s in zip(self._middle, shift, strict=True))
            if float(self.seed[at]) >= _logit(MOVE):
                self._window = tuple(
                    slice(p - f // 2, p + f // 2 + 1) for p, f in zip(at, self._fov, strict=True)
                )
                return True
        return False

    def fields(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return network input (2, z, y, x), soft target and weights (1, z, y, x)."""
        w = self._window
        inside = self.example.inside[w] * (SOFT_INSIDE - SOFT_OUTSIDE) + SOFT_OUTSIDE
        given = torch.stack([self.example.image[w], self.seed[w]])
        return given, inside[None], self.example.known[w][None]

    def accept(self, logits: Tensor) -> None:
        """Keep what the network said of the present field of view (z, y, x)."""
        self.seed[self._window] = logits
        self.moves += 1

    def count(self, into: Counts) -> None:
        """Add this example, ended, to the sums."""
        found = (self.seed >= _logit(SEGMENT)) & (self.example.known > 0)
        true = self.example.inside > 0
        into.examples += 1
        into.moves += self.moves
        into.true += int(true.sum())
        into.found += int(found.sum())
        into.both += int((true & found).sum())


class Streams:
    """The places of one rank's batch.

    What they draw is a function of the training's seed, of the step at which they began, and of
    rank and place. They begin anew at each checkpoint, so that a checkpoint need not hold them and
    a resumed training sees what it would have seen.

    Args:
        examples: to draw from.
        fov, deltas: the network's geometry.
        batch: number of places.
        seed: of the training; ``step`` at which the streams begin; ``rank`` of this process.
    """

    def __init__(
        self,
        examples: Examples,
        fov: tuple[int, int, int],
        deltas: tuple[int, int, int],
        batch: int,
        seed: int,
        step: int,
        rank: int,
    ) -> None:
        self._examples, self._fov, self._deltas = examples, fov, deltas
        self._name = (seed, step, rank)
        self._drawn = [0] * batch
        self.counts = Counts()
        self._fills = [self._draw(place) for place in range(batch)]
        self._shown = self._stack()

    def _draw(self, place: int) -> Fill:
        seed = np.random.SeedSequence([*self._name, place, self._drawn[place]])
        self._drawn[place] += 1
        drawn, shuffled = seed.spawn(2)
        fill = Fill(
            self._examples.draw(drawn), self._fov, self._deltas, np.random.default_rng(shuffled)
        )
        fill.next()  # the middle always holds the seed
        return fill

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs (place, 2, z, y, x), targets and weights (place, 1, z, y, x)."""
        return self._shown

    def accept(self, logits: Tensor) -> None:
        """Take the network's answers (place, z, y, x), move on, and make the next batch ready."""
        for place, fill in enumerate(self._fills):
            fill.accept(logits[place])
            if not fill.next():
                fill.count(self.counts)
                self._fills[place] = self._draw(place)
        self._shown = self._stack()

    def _stack(self) -> tuple[Tensor, Tensor, Tensor]:
        given, target, weight = zip(*(fill.fields() for fill in self._fills), strict=True)
        return torch.stack(given), torch.stack(target), torch.stack(weight)

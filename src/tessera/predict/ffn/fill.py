"""Filling: move a field of view through a subvolume, object by object.

For each seed in turn (:mod:`.seeds`):

1. It is passed over if it is too near the subvolume's edge, labelled already, masked, or if a
   label lies within ``min_distance_vox``.
2. The network looks at the field of view centred on it, and its answer replaces the seed there.
3. On each of the six faces of the box of +-deltas about the centre, the voxel of the largest
   logit is a place to move to, if it reaches ``move_threshold``; the strongest queue first, and the
   queue is first in, first out. One move a cell of the lattice of deltas about the start.
4. This ends when the queue is empty, or as soon as the start itself falls below the threshold.
5. Voxels that reach ``segment_threshold`` and have no label become an object, if they are at least
   ``min_voxels``; else the start is excluded.

Januszewski 2018 (doi:10.1038/s41592-018-0049-4), with the constants of its published code.

A fill is a generator that yields the fields it wants looked at and is sent the logits, so one
network can serve many fills at once (:func:`tessera.predict.ffn.moves.drive`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, field

import numpy as np

from tessera.config import Fill
from tessera.predict.ffn.canvas import EXCLUDED, Canvas, Position, logit

# What a fill yields: (2, z, y, x) image and seed; what it is sent: (z, y, x) logits.
Moves = Generator[np.ndarray, np.ndarray, None]


@dataclass
class Statistics:
    """Counts of one subvolume; all follow from the input alone."""

    seeds: int = 0
    tried: int = 0
    moves: int = 0
    wasted_moves: int = 0
    weak: int = 0
    small: int = 0
    objects: int = 0

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass
class Growth:
    """An object on its way; with the canvas's seed, all that it needs to go on.

    Attributes:
        start: where it began.
        queue: where to move; the first place stands until the network has looked at it.
        done: cells of the lattice that have been moved to.
        moves: how many that were.
    """

    start: Position
    queue: deque[Position]
    done: set[Position] = field(default_factory=set)
    moves: int = 0


@dataclass
class State:
    """How far a subvolume is; with the canvas, all that a fill needs to go on.

    Attributes:
        next_seed: number of the next seed.
        objects: for each object z, y, x of its seed, moves, voxels.
        statistics: counts so far.
        growth: the object that is being filled; None between two.
    """

    next_seed: int = 0
    objects: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    growth: Growth | None = None


class Filler:
    """Fills one canvas.

    Args:
        canvas: the subvolume.
        deltas: the network's steps (z, y, x).
        rules: thresholds and sizes.
    """

    def __init__(self, canvas: Canvas, deltas: tuple[int, int, int], rules: Fill) -> None:
        self.canvas, self.deltas, self.rules = canvas, deltas, rules
        self.move_logit = np.float32(logit(rules.move_threshold))
        self.segment_logit = np.float32(logit(rules.segment_threshold))
        self.start_logit = np.float32(logit(rules.start))
        self._fields = np.empty((2, *canvas.fov), np.float32)

    def run(self, seeds: np.ndarray, state: State) -> Moves:
        """Fill from each seed (seed, 3) in turn, from where ``state`` stands."""
        count = state.statistics
        count.seeds = len(seeds)
        while state.next_seed < len(seeds):
            z, y, x = seeds[state.next_seed].tolist()
            start = (z, y, x)
            if state.growth is None and self._worth(start):
                count.tried += 1
                state.growth = self.begin(start)
            if state.growth is not None:
                yield from self.grow(state.growth)
                moves = state.growth.moves
                count.moves += moves
                voxels = self._keep(start, len(state.objects) + 1, count)
                if voxels:
                    state.objects.append((*start, moves, voxels))
                    count.objects += 1
                else:
                    count.wasted_moves += moves
                state.growth = None
            state.next_seed += 1

    def _worth(self, start: Position) -> bool:
        canvas = self.canvas
        if not canvas.open(start):
            return False
        if canvas.near_label(start, self.rules.min_distance_vox):
            canvas.labels[start] = EXCLUDED
            return False
        return True

    def begin(self, start: Position) -> Growth:
        """Begin an object: the canvas's seed is one voxel."""
        self.canvas.begin(start, float(self.start_logit))
        return Growth(start, deque([start]))

    def grow(self, growth: Growth) -> Moves:
        """Move over one object; its logits are then in the canvas's seed."""
        canvas, threshold, queue = self.canvas, self.move_logit, growth.queue
        while queue:
            at = queue[0]
            cell = self._cell(at, growth.start)
            if cell in growth.done or not canvas.open(at) or canvas.seed[at] < threshold:
                queue.popleft()
                continue
            if canvas.seed[growth.start] < threshold:
                break
            canvas.look(at, self._fields)
            logits = yield self._fields
            queue.popleft()
            growth.moves += 1
            growth.done.add(cell)
            queue.extend(self._steps(canvas.accept(at, logits, float(threshold)), at))

    def _cell(self, at: Position, start: Position) -> Position:
        """Cell of the lattice of deltas whose middle cell is centred on the start."""
        z, y, x = (
            (p - s + d // 2) // max(d, 1) for p, s, d in zip(at, start, self.deltas, strict=True)
        )
        return z, y, x

    def _steps(self, logits: np.ndarray, at: Position) -> list[Position]:
        """Where to go from here: the maxima on the six faces, the surest first."""
        found: set[tuple[float, Position]] = set()
        centre = self.canvas.margin
        ranges = [slice(c - d, c + d + 1) for c, d in zip(centre, self.deltas, strict=True)]
        for axis, delta in enumerate(self.deltas):
            if delta == 0:
                continue
            u, v = (a for a in range(3) if a != axis)
            for offset in (-delta, delta):
                part: list[int | slice] = list(ranges)
                part[axis] = centre[axis] + offset
                face = logits[tuple(part)]
                best = int(face.argmax())
                i, j = divmod(best, face.shape[1])
                score = float(face[i, j])
                if score < self.move_logit:
                    continue
                step = [0, 0, 0]
                step[axis], step[u], step[v] = offset, i - self.deltas[u], j - self.deltas[v]
                found.add((score, (step[0], step[1], step[2])))
        return [
            (at[0] + dz, at[1] + dy, at[2] + dx) for _, (dz, dy, dx) in sorted(found, reverse=True)
        ]

    def _keep(self, start: Position, number: int, count: Statistics) -> int:
        """Make an object of the seed as it stands; returns its voxels, 0 if it is none."""
        canvas = self.canvas
        if canvas.seed[start] < self.move_logit:
            count.weak += 1
            voxels = 0
        else:
            box = canvas.reached
            labels = canvas.labels[box]
            mask = (canvas.seed[box] >= self.segment_logit) & (labels <= 0)
            if canvas.blocked is not None:
                mask &= ~canvas.blocked[box]
            voxels = int(np.count_nonzero(mask))
            if voxels >= max(self.rules.min_voxels, 1):
                labels[mask] = number
                return voxels
            count.small += 1
        if canvas.labels[start] == 0:
            canvas.labels[start] = EXCLUDED
        return 0

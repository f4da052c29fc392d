"""Checkpoints of a subvolume that takes hours: what is filled so far, between two moves."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tessera.errors import TesseraError
from tessera.predict.ffn.canvas import Canvas, Position
from tessera.predict.ffn.fill import Growth, State, Statistics
from tessera.volume.subvolume import load_arrays, save_arrays


@dataclass(frozen=True)
class Checkpoint:
    """How far a subvolume was.

    Attributes:
        done: labels of each order of seeds that is finished.
        labels: of the order that is not, so far.
        corner, seed: logits of the object that was being filled, from this voxel on.
        states: of the orders before and of this one.
    """

    done: list[np.ndarray]
    labels: np.ndarray
    corner: Position
    seed: np.ndarray
    states: list[State]

    def restore(self, canvas: Canvas) -> None:
        """Make a new canvas what it was."""
        canvas.labels[...] = self.labels
        canvas.resume(self.corner, self.seed)


def save(path: Path, key: str, done: list[np.ndarray], canvas: Canvas, states: list[State]) -> None:
    """Write a checkpoint in place of the last one.

    Args:
        path: the checkpoint.
        key: hash of all that the fill depends on.
        done: labels of the orders before.
        canvas: of this order.
        states: of the orders before and of this one, which is in the middle of an object.
    """
    growth = states[-1].growth
    assert growth is not None
    about = {
        "key": key,
        "states": [asdict(replace(state, growth=None)) for state in states],
        "start": growth.start,
        "moves": growth.moves,
        "corner": [part.start for part in canvas.reached],
    }
    save_arrays(
        path,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        labels=np.stack([*done, canvas.labels]),
        seed=canvas.seed[canvas.reached],
        queue=np.array(growth.queue, np.int64).reshape(-1, 3),
        cells=np.array(sorted(growth.done), np.int64).reshape(-1, 3),
    )


def load(path: Path, key: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none, if it is torn, or of other settings."""
    if not path.exists():
        return None
    try:
        text, labels, seed, queue, cells = load_arrays(
            path, "about", "labels", "seed", "queue", "cells"
        )
    except TesseraError:
        return None
    about = json.loads(text.tobytes())
    if about["key"] != key:
        return None
    states = [
        State(s["next_seed"], [tuple(o) for o in s["objects"]], Statistics(**s["statistics"]))
        for s in about["states"]
    ]
    states[-1].growth = Growth(
        _position(about["start"]),
        deque(_position(at) for at in queue.tolist()),
        {_position(cell) for cell in cells.tolist()},
        about["moves"],
    )
    return Checkpoint(list(labels[:-1]), labels[-1], _position(about["corner"]), seed, states)


def _position(values: list[int]) -> Position:
    z, y, x = values
    return z, y, x

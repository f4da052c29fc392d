"""Checkpoints of a subvolume that takes hours: what is filled so far, between two objects."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tessera.errors import TesseraError
from tessera.predict.ffn.fill import State, Statistics
from tessera.volume.subvolume import load_arrays, save_arrays


def save(
    path: Path,
    key: str,
    order: int,
    done: list[np.ndarray],
    labels: np.ndarray,
    states: list[State],
) -> None:
    """Write a checkpoint in place of the last one.

    Args:
        path: the checkpoint.
        key: hash of all that the fill depends on.
        order: number of the order of seeds that is being filled.
        done: labels of the orders before.
        labels: labels of this order so far.
        states: of the orders before and of this one.
    """
    about = {
        "key": key,
        "order": order,
        "states": [asdict(s) for s in states],
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    save_arrays(path, about=text, labels=np.stack([*done, labels]))


def load(path: Path, key: str) -> tuple[int, list[np.ndarray], list[State]] | None:
    """Read a checkpoint: the order it stands in, labels and state of each order begun.

    Returns:
        None if there is none, if it is torn, or of other settings: the fill begins anew.
    """
    if not path.exists():
        return None
    try:
        text, labels = load_arrays(path, "about", "labels")
    except TesseraError:
        return None
    about = json.loads(text.tobytes())
    if about["key"] != key:
        return None
    states = [
        State(s["next_seed"], [tuple(o) for o in s["objects"]], Statistics(**s["statistics"]))
        for s in about["states"]
    ]
    return int(about["order"]), list(labels), states

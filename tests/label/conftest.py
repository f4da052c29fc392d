"""Predictions written by hand, as `tessera predict` would leave them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

Write = Callable[..., Path]


@pytest.fixture
def prediction(tmp_path: Path) -> Write:
    """Return a function that stores uint8 voxels as a finished prediction."""

    def write(values: np.ndarray, classes: tuple[str, ...] = ("background", "soma")) -> Path:
        """``values``: (channel, z, y, x) probabilities, or (z, y, x) classes."""
        folder = tmp_path / "predict"
        channels = classes if values.ndim == 4 else ()
        shape = values.shape[-3:]
        name = "prob.zarr" if channels else "classes.zarr"
        layout = Layout(
            Triple(*shape),
            "uint8",
            (0.5, 1.0, 2.0),
            Triple(16, 16, 16),
            Triple(16, 16, 16),
            channels,
            origin_um=(1.0, 2.0, 3.0),
        )
        volume = create_volume(folder / name, layout)
        volume.write(Box.whole(shape), values)
        (folder / "records").mkdir()
        (folder / "records/0000.json").write_text('{"key": "k", "total": 0}\n')
        stored = {"key": "k", "path": name, "classes": list(classes), "batches": 1}
        (folder / "store.json").write_text(json.dumps(stored))
        return folder / "store.json"

    return write

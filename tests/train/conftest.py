"""A small specimen whose truth is known: bright balls on noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume


def write_volume(path: Path, data: np.ndarray) -> None:
    volume = create_volume(
        path, Layout(Triple(*data.shape), str(data.dtype), (1.0, 1.0, 1.0), Triple(16, 16, 16))
    )
    volume.write(Box.whole(data.shape), data)


def balls(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return (image, ids): balls of radius 4 and brightness 2 in noise of spread 0.3."""
    random = np.random.default_rng(seed)
    ids = np.zeros(shape, np.uint8)
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for number in range(1, 13):
        centre = [random.uniform(4, n - 4) for n in shape]
        far = sum((a - c) ** 2 for a, c in zip(at, centre, strict=True))
        ids[(far <= 16) & (ids == 0)] = number
    image = (2.0 * (ids > 0) + random.normal(0, 0.3, shape)).astype(np.float32)
    return image, ids


@pytest.fixture
def specimen(tmp_path):
    """Folder with volume.json, truth.zarr (classes) and ids.zarr (objects), 32 x 40 x 48."""
    image, ids = balls((32, 40, 48))
    write_volume(tmp_path / "volume.zarr", image)
    write_volume(tmp_path / "truth.zarr", (ids > 0).astype(np.uint8))
    write_volume(tmp_path / "ids.zarr", ids.astype(np.uint32))
    facts = {
        "path": "volume.zarr",
        "digest": "d",
        "shape": list(image.shape),
        "voxel_um": [1.0] * 3,
        "origin_um": [0.0] * 3,
        "dtype": "float32",
        "statistics": {"mean": float(image.mean()), "std": float(image.std())},
    }
    (tmp_path / "volume.json").write_text(json.dumps(facts))
    return tmp_path


@pytest.fixture
def small():
    """Settings of a training that takes seconds."""
    return {
        "classes": ["background", "soma"],
        "channels": [4, 8],
        "patch": [16, 16, 16],
        "steps": 20,
        "batch": 2,
        "learning_rate": 0.01,
        "lr_scaling": "none",
        "checkpoint_every": 10,
        "validate_every": 10,
        "split": {
            "train": [{"stop": [None, None, 32]}],
            "validation": [{"start": [0, 0, 32], "stop": [None, None, 40]}],
            "test": [{"start": [0, 0, 40]}],
        },
    }

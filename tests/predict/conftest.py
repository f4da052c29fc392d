"""Small bundles and volumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.nets.bundle import Facts, save
from tessera.nets.registry import build
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

CLASSES = ("background", "soma", "vessel")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An untrained U-Net whose batch norms have seen something."""
    torch.manual_seed(0)
    options = {"stem": 1}
    net = build("unet3d", len(CLASSES), (4, 8), options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    facts = Facts(
        net={"name": "unet3d", "channels": [4, 8], "options": options},
        classes=CLASSES,
        activation="softmax",
        normalisation={"mean": 100.0, "std": 50.0},
        voxel_um=(1.0, 1.0, 1.0),
        halo_vox=tuple(net.halo),  # type: ignore[arg-type]
        align_vox=tuple(net.align),  # type: ignore[arg-type]
    )
    save(tmp_path / "model", net.state_dict(), facts)
    return tmp_path / "model"


@pytest.fixture
def volume(tmp_path: Path) -> Callable[[np.ndarray], Path]:
    """Return a function that stores voxels as a finished mosaic."""

    def write(values: np.ndarray) -> Path:
        folder = tmp_path / "mosaic"
        layout = Layout(
            Triple(*values.shape),
            str(values.dtype),
            (1.0, 1.0, 1.0),
            Triple(16, 16, 16),
            Triple(16, 16, 16),
        )
        create_volume(folder / "volume.zarr", layout).write(Box.whole(values.shape), values)
        (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr", "digest": "d"}))
        return folder / "volume.json"

    return write

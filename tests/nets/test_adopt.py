"""A model trained elsewhere: taken as it is where it fits, refused in a sentence where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from tessera.cli import main
from tessera.nets import bundle, registry

CLASSES = ("background", "cell")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    net = registry.build("unet3d", 2, (4, 6), {"norm": "none"})
    facts = bundle.Facts(
        {"name": "unet3d", "channels": [4, 6], "options": {"norm": "none"}},
        CLASSES,
        "softmax",
        {"mean": 100.0, "std": 20.0},
        (1.0, 1.0, 1.0),
        (24, 24, 24),
        (4, 4, 4),
    )
    torch.manual_seed(1)
    bundle.save(tmp_path / "trained", net.state_dict(), facts)
    return tmp_path / "trained"


def check(folder: Path, voxel_um: float = 1.0, **model: Any) -> int:
    """Write a volume and a config beside the bundle, and check them."""
    with h5py.File(folder / "v.h5", "w") as file:
        file["raw"] = np.random.default_rng(0).integers(0, 255, (16, 16, 16)).astype(np.uint8)
    volume = {"path": str(folder / "v.h5"), "dataset": "raw", "voxel_um": [voxel_um] * 3}
    settings = {"classes": list(CLASSES), "bundle": str(folder / "trained"), **model}
    found = "cell" if "cell" in settings["classes"] else "soma"
    config = {
        "specimen": "s",
        "results": str(folder / "results"),
        "volume": volume,
        "models": {"m": settings},
        "label": {"classes": [found]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return main(["check", str(folder / "config.yaml")])


def test_what_fits_is_sound_without_labels(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path) == 0
    assert "model m: unet3d, background, cell; from" in capsys.readouterr().out


def test_it_is_taken_byte_for_byte(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "volume.json").write_text(
        json.dumps(
            {
                "path": "v.zarr",
                "digest": "x",
                "voxel_um": [1.05, 1, 1],
                "statistics": {"mean": 1},
            }
        )
    )
    settings = json.dumps({"classes": CLASSES, "bundle": str(trained)})
    given = ["--settings", settings, "--volume", str(tmp_path / "volume.json")]
    assert main(["train", "m", *given, "--out", str(tmp_path / "own")]) == 0
    for name in (bundle.WEIGHTS, bundle.FACTS):
        assert (trained / name).read_bytes() == (tmp_path / "own" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["background", "soma"]}, "the bundle's classes are background, cell"),
        ({"voxel_um": 2.0}, "trained on voxels of 1 x 1 x 1 um but those here are of 2 x 2 x 2"),
        ({"net": "unet2d"}, "models.m.net: is unet2d but the network"),
        ({"channels": [8, 16]}, "models.m.channels: is (8, 16) but the network"),
        ({"bundle": "nowhere"}, "give the folder of a model bundle"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_job(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    status = check(tmp_path, **changes)
    told = capsys.readouterr().err.strip()
    assert status == 2 and said in told and len(told.splitlines()) == 1


def test_a_tampered_bundle_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((trained / bundle.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (trained / bundle.WEIGHTS).write_bytes(bytes(data))
    assert check(tmp_path) == 2
    assert "its hash differs" in capsys.readouterr().err

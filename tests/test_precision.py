"""One command: what a reduced precision gains and costs, against scores made by hand."""

import json

import numpy as np
import pytest
import torch
import yaml

from tessera.cli import main
from tessera.nets import bundle
from tessera.nets.registry import build
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

SHAPE = (24, 32, 40)


@pytest.fixture
def specimen(tmp_path):
    """A bright slab in noise, its labels, an untrained network, and a config that names them."""
    random = np.random.default_rng(0)
    truth = np.zeros(SHAPE, np.uint8)
    truth[6:18, 8:24, 10:30] = 1
    image = (truth + random.normal(0, 0.3, SHAPE)).astype(np.float32)
    root = tmp_path / "results" / "s"
    size = Triple(16, 16, 16)
    for path, data in ((root / "mosaic/volume.zarr", image), (tmp_path / "truth.zarr", truth)):
        layout = Layout(Triple(*SHAPE), str(data.dtype), (1.0, 1.0, 1.0), size, size)
        create_volume(path, layout).write(Box.whole(SHAPE), data)
    facts = {"path": "volume.zarr", "digest": "d", "shape": list(SHAPE)}
    (root / "mosaic/volume.json").write_text(json.dumps(facts))
    torch.manual_seed(3)
    options = {"norm": "none", "convs": 1}
    net = build("unet3d", 2, (4, 8), options)
    bundle.save(
        root / "train/m",
        net.state_dict(),
        bundle.Facts(
            net={"name": "unet3d", "channels": [4, 8], "options": options},
            classes=("background", "soma"),
            activation="softmax",
            normalisation={"mean": 0.3, "std": 0.5},
            voxel_um=(1.0, 1.0, 1.0),
            halo_vox=net.halo,
            align_vox=net.align,
        ),
    )
    config = {
        "specimen": "s",
        "results": str(tmp_path / "results"),
        "volume": {"path": str(tmp_path / "unused.h5"), "voxel_um": [1.0] * 3},
        "models": {
            "m": {
                "classes": ["background", "soma"],
                "labels": [{"path": str(tmp_path / "truth.zarr")}],
                "split": {"train": [{"stop": [None, None, 16]}], "test": [{"start": [0, 0, 16]}]},
            }
        },
        "predict": {"block": [16, 16, 16], "chunk": [16, 16, 16]},
        "label": {"classes": ["soma"], "min_voxels": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path, image, truth


def test_speed_and_the_change_of_every_score(specimen, capsys):
    folder, image, truth = specimen
    assert main(["precision", "m", "--config", str(folder / "config.yaml")]) == 0
    told = capsys.readouterr().out
    found = json.loads((folder / "results/s/precision/m.json").read_text())
    kinds = ["fp32", "bf16", "fp16"] if torch.cuda.is_available() else ["fp32", "bf16"]
    assert list(found) == kinds and found["fp32"]["mvoxel_per_s"] > 0

    model = bundle.load(folder / "results/s/train/m")
    assert not any(n % a for n, a in zip(SHAPE, model.align, strict=True))
    with torch.inference_mode():
        given = model.normalise(torch.from_numpy(image)[None, None])
        likely = model.net(given).argmax(1)[0].numpy()
    a, b = likely[..., 16:] == 1, truth[..., 16:] == 1
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert 0.05 < dice < 0.95
    assert found["fp32"]["scores"]["soma.dice"] == pytest.approx(dice, abs=2e-3)

    other = found["bf16"]
    assert other["same_classes"] > 0.97 and 0 < other["largest_change"] < 0.2
    assert set(other["score_changes"]) == set(found["fp32"]["scores"]) == set(other["scores"])
    change = other["scores"]["soma.dice"] - found["fp32"]["scores"]["soma.dice"]
    assert other["score_changes"]["soma.dice"] == pytest.approx(change, abs=1e-5)
    assert all(name in told for name in ("speed_up", "soma.dice", "soma.f1", "bf16"))
    assert [p.name for p in (folder / "results/s/precision").iterdir()] == ["m.json"]


def test_what_is_not_there_is_said(specimen, capsys):
    folder = specimen[0]
    assert main(["precision", "n", "--config", str(folder / "config.yaml")]) == 2
    assert "no model 'n'" in capsys.readouterr().err
    (folder / "results/s/train/m/model.json").unlink()
    assert main(["precision", "m", "--config", str(folder / "config.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err

"""What `tessera check` finds before the first job, each in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from tessera.check import check_config
from tessera.cli import main
from tessera.config import parse_config
from tessera.errors import TesseraError

SHAPE = (12, 20, 16)
SIMULATE = {
    "shape": [24, 48, 48],
    "tiles": [1, 1, 2],
    "overlap_vox": 16,
    "angles": 31,
    "somas": 3,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(TesseraError) as caught:
        check_config(parse_config({"specimen": "s", **settings}))
    said = str(caught.value)
    assert "\n" not in said
    return said


def volume(**arrays: np.ndarray) -> dict[str, Any]:
    """Write a volume with labels, and return a config that starts from it."""
    with h5py.File("v.h5", "w") as file:
        file["raw"] = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
        for name, data in arrays.items():
            file[name] = data
    return {"volume": {"path": "v.h5", "dataset": "raw", "voxel_um": [1, 1, 1]}}


def model(**changes: Any) -> dict[str, Any]:
    settings = {
        "classes": ["background", "cell"],
        "labels": [{"path": "v.h5", "dataset": "labels"}],
        "split": {"train": [{"stop": [12, 20, 10]}], "test": [{"start": [0, 0, 12]}]},
    }
    return {"models": {"m": settings | changes}, "label": {"classes": ["cell"]}}


def cells() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 4:9, 2:5] = 1
    return labels


def scans(count: int = 2, step_mm: float = 0.02, **changes: Any) -> dict[str, Any]:
    from tests.formats.conftest import STAGE, exchange

    for number in range(count):
        exchange(Path(f"t{number}.h5"), **{STAGE + "x": number * step_mm}, **changes)
    return {"scans": "t*.h5"}


def test_demo_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    demo = Path(__file__).parents[1] / "config.yaml"
    assert main(["check", str(demo)]) == 0
    said = capsys.readouterr().out
    assert "4 tiles" in said and "GiB" in said
    assert not Path("results").exists()


def test_sound_starts() -> None:
    summary = check_config(parse_config({"specimen": "s", **volume(labels=cells()), **model()}))
    assert summary.shape == SHAPE and summary.need_bytes > np.prod(SHAPE)
    summary = check_config(parse_config({"specimen": "s", **scans()}))
    assert summary.shape[2] == 32 + round(20 / 1.5)
    assert any("2 Data Exchange; 20 angles of 6 x 32 pixels" in line for line in summary.lines)


def test_bad_scans_are_found() -> None:
    assert "no file matches" in refused({"scans": "none_*.h5"})
    assert "overlaps no other tile" in refused(scans(step_mm=1.0))
    assert "lies where" in refused(scans(step_mm=0.0))
    assert "looks like radians" in refused(scans(theta=np.linspace(0, 3, 20)))
    settings = scans() | {"recon": {"axis": {"column": 40}}}
    assert "outside the picture of 32 columns" in refused(settings)
    data = np.full((20, 6, 32), 700.0, np.float32)
    data[0, 2, 2] = np.nan
    assert "not numbers" in refused(scans(data=data))


def test_two_scans_of_one_name() -> None:
    scans(1)
    os.mkdir("other")
    shutil.copy("t0.h5", "other/t0.h5")
    assert "would both be tile 't0'" in refused({"scans": ["t0.h5", "other/t0.h5"]})


def test_volume_without_spacing() -> None:
    settings = volume()
    del settings["volume"]["voxel_um"]
    assert "give volume.voxel_um" in refused(settings)


def test_labels() -> None:
    wrong = volume(labels=np.zeros((12, 20, 15), np.uint8))
    assert "do not fit the volume of (12, 20, 16)" in refused(wrong | model())
    high = cells()
    high[3, 4, 2] = 7
    said = refused(volume(labels=high) | model())
    assert "holds label 7" in said and "models.m.classes" in said
    instances = model(labels=[{"path": "v.h5", "dataset": "labels", "instances_of": "cell"}])
    check_config(parse_config({"specimen": "s", **volume(labels=high), **instances}))
    assert "no labels to learn from" in refused(volume(labels=cells()) | model(labels=[]))
    assert "no dataset 'labels'" in refused(volume() | model())
    named = volume(labels=cells()) | model() | {"label": {"classes": ["neuron"]}}
    assert "no model has a class 'neuron'" in refused(named)


def test_flood_filling() -> None:
    start = volume(ids=np.ones(SHAPE, np.uint16)) | {"label": {"classes": ["neuron"]}}
    given = {
        "net": "ffn",
        "classes": ["background", "neuron"],
        "weights": "w.npz",
        "labels": [{"path": "v.h5", "dataset": "ids", "instances_of": "neuron"}],
        "split": {"test": [{"stop": [4, 4, 4]}]},  # nothing is trained: all may be tested
        "net_options": {"fov": 9, "deltas": 2},
    }
    assert "w.npz does not exist" in refused(start | {"models": {"n": given}})
    Path("w.npz").touch()
    check_config(parse_config({"specimen": "s", **start, "models": {"n": given}}))
    wide = given | {"net_options": {"fov": 51, "deltas": 8}}
    label = {"classes": ["neuron"], "assembly": {"agglomerate": True}}
    assert "at least 51" in refused(start | {"models": {"n": wide}, "label": label})
    several = given | {"classes": ["background", "neuron", "glia"]}
    assert "objects of one class" in refused(start | {"models": {"n": several}})
    assert "net: ffn" in refused(start | {"models": {"n": given | {"net": "unet3d"}}})
    idle = given | {"accumulate": 4, "patch": [64, 64, 64], "early_stop": 3}
    assert "no use for accumulate, early_stop;" in refused(start | {"models": {"n": idle}})
    assert "no use for patch;" in refused(start | {"models": {"n": given | {"patch": [8, 8, 8]}}})


def test_mask_and_truth_of_another_shape() -> None:
    sound = volume(labels=cells(), small=np.zeros((3, 4, 5), np.uint8)) | model()
    other = {"path": "v.h5", "dataset": "small"}
    for settings, what in (
        ({"predict": {"mask": other}}, "a mask of (3, 4, 5)"),
        ({"evaluate": {"truth": [other]}}, "truth of (3, 4, 5)"),
    ):
        said = refused(sound | settings)
        assert "v.h5::small" in said and what in said


def test_boxes_outside_the_volume() -> None:
    split = {"train": [{"stop": [12, 20, 17]}]}
    said = refused(volume(labels=cells()) | model(split=split))
    assert "0 to 17 along x" in said and "16 voxels" in said
    simulated = {"simulate": SIMULATE} | model(labels=[], split={"train": [{"start": [90, 0, 0]}]})
    assert "along z" in refused(simulated)


def test_results_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("results").write_text("a file")
    assert "is a file, not a folder" in refused({"simulate": SIMULATE})
    Path("results").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert "cannot be written" in refused({"simulate": SIMULATE})


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(100, 99, 1)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "GiB free" in refused({"simulate": SIMULATE})


def test_wrong_config_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"specimen": "s", "simulat": {}}))
    assert main(["check", "c.yaml"]) == 2
    said = capsys.readouterr().err
    assert "unknown key 'simulat'; did you mean 'simulate'?" in said and said.count("\n") == 1

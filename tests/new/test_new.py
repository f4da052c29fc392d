"""`tessera new` writes a config that the rest of the program accepts and a person can read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from tessera.check import check_config
from tessera.cli import main
from tessera.config import read_config
from tessera.nets.registry import build
from tests.formats.conftest import PIXEL, STAGE, exchange

SHAPE = (24, 40, 32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_volume(**arrays: np.ndarray) -> None:
    with h5py.File("v.h5", "w") as file:
        file["raw"] = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)
        file.attrs["voxel_size_um"] = [2.0, 1.0, 1.0]
        for name, data in arrays.items():
            file[name] = data


def test_scans() -> None:
    for number in range(2):
        exchange(Path(f"scan {number}.h5"), **{STAGE + "x": 0.03 * number})
    assert main(["new", "My cord #1", "--scans", "scan*.h5"]) == 0
    config = read_config("My cord #1/config.yaml")
    assert config.specimen == "My_cord_1"
    assert check_config(config).shape == (6, 32, 52)


def test_what_the_scans_do_not_say_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    exchange(Path("a.h5"), theta=None, **{PIXEL: None})
    assert main(["new", "mine", "--scans", "a.h5"]) == 0
    assert "2 line(s) marked NEEDED" in capsys.readouterr().out
    text = Path("mine/config.yaml").read_text()
    filled = text.replace("# pixel_um: 1.0", "pixel_um: 1.5").replace("# angles_deg", "angles_deg")
    Path("mine/config.yaml").write_text(filled)
    assert main(["check", "mine/config.yaml"]) == 0


def test_volume_with_instances_and_a_mask() -> None:
    cells = np.zeros(SHAPE, np.uint16)
    cells[::4, ::4, ::4] = np.arange(1, 481).reshape(6, 10, 8)
    vessel = np.zeros(SHAPE, np.uint8)
    vessel[5:8] = 1
    write_volume(**{"labels/cells": cells, "labels/vessels": vessel})
    line = ["new", "cortex", "--volume", "v.h5::raw", "--labels", "cell=v.h5::labels/cells"]
    assert main([*line, "--labels", "v.h5::labels/vessels"]) == 0
    config = read_config("cortex/config.yaml")
    model = config.models["tissue"]
    assert config.volume is not None and config.volume.voxel_um == (2.0, 1.0, 1.0)
    assert model.classes == ("background", "cell", "vessels")
    assert [source.instances_of for source in model.labels] == ["cell", "vessels"]
    assert config.label.classes == ("cell",)
    assert check_config(config).shape == SHAPE


@pytest.mark.parametrize(
    ("values", "classes", "instances"),
    [
        (1, ("background", "tissue"), None),
        (3, ("background", "tissue_1", "tissue_2", "tissue_3"), None),
        (40, ("background", "tissue"), "tissue"),
    ],
)
def test_kinds_of_labels(values: int, classes: tuple[str, ...], instances: str | None) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[: values % 23 + 1].flat[:values] = np.arange(1, values + 1)
    write_volume(labels=labels)
    assert main(["new", "a", "--volume", "v.h5::raw", "--labels", "tissue=v.h5::labels"]) == 0
    config = read_config("a/config.yaml")
    assert config.models["tissue"].classes == classes
    assert config.models["tissue"].labels[0].instances_of == instances
    check_config(config)


def test_the_size_of_the_network_is_written_where_a_person_changes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is written is what fits: a network of its own making takes the patch, in less memory."""
    write_volume(labels=np.ones(SHAPE, np.uint8))
    line = ["--volume", "v.h5::raw", "--labels", "t=v.h5::labels"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name, gib in (("large", 64.0), ("small", 0.2)):
        monkeypatch.setattr("tessera.compute.device.memory_bytes", lambda gib=gib: gib * 2**30)
        assert main(["new", name, *line]) == 0
    large, small = (read_config(f"{n}/config.yaml").models["tissue"] for n in ("large", "small"))
    # Sections of 2 um with pixels of 1 um: halved in y and x alone until they are alike.
    assert large.net_options == {"stem": [1, 2, 2], "strides": [[2, 2, 2]]}
    net = build(large.net, 2, large.channels, large.net_options)
    train = large.split.train[0]
    inside = [b - a for a, b in zip(train.start, train.stop, strict=True) if b is not None]
    assert all(
        p % a == 0 and p <= n for p, a, n in zip(large.patch, net.align, inside, strict=True)
    )
    assert small.batch * np.prod(small.patch) <= large.batch * np.prod(large.patch)
    text = Path("large/config.yaml").read_text()
    assert " x ".join(map(str, net.halo)) in text and "64.0 GiB" not in text  # two ranks share
    assert "32.0 GiB a rank" in text


def test_a_box_too_small_for_any_network_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File("v.h5", "w") as file:
        file["raw"] = np.arange(4 * 3 * 60).reshape(4, 3, 60).astype(np.uint8)
        file["labels"] = np.ones((4, 3, 60), np.uint8)
        file.attrs["voxel_size_um"] = [1.0, 1.0, 1.0]
    assert main(["new", "a", "--volume", "v.h5::raw", "--labels", "t=v.h5::labels"]) == 0
    assert "1 line(s) marked NEEDED" in capsys.readouterr().out
    assert "thinner than the network's grid" in Path("a/config.yaml").read_text()


def test_boxes_leave_the_test_region_alone() -> None:
    labels = np.ones(SHAPE, np.uint8)
    write_volume(labels=labels)
    main(["new", "a", "--volume", "v.h5::raw", "--labels", "t=v.h5::labels"])
    split = yaml.safe_load(Path("a/config.yaml").read_text())["models"]["tissue"]["split"]
    used = np.zeros(SHAPE, int)
    for boxes in split.values():
        for box in boxes:
            used[tuple(slice(a, b) for a, b in zip(box["start"], box["stop"], strict=True))] += 1
    assert used.max() == 1 and used.mean() > 0.9


def refused(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(["new", *line]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    write_volume(labels=np.zeros((3, 4, 5), np.uint8), weights=np.zeros(SHAPE, np.float32))
    volume = ("--volume", "v.h5::raw")
    assert "no file matches" in refused(capsys, "a", "--scans", "none*")
    assert "do not fit" in refused(capsys, "a", *volume, "--labels", "v.h5::labels")
    assert "whole numbers" in refused(capsys, "a", *volume, "--labels", "v.h5::weights")
    assert "no dataset 'row'" in refused(capsys, "a", "--volume", "v.h5::row")
    exchange(Path("s.h5"))
    said = refused(capsys, "a", "--scans", "s.h5", "--labels", "v.h5::labels")
    assert "give them with --volume" in said
    assert not Path("a").exists()
    assert main(["new", "a", *volume]) == 0
    before = Path("a/config.yaml").read_text()
    assert "is there already" in refused(capsys, "a", *volume)
    assert Path("a/config.yaml").read_text() == before

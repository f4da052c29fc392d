"""evaluate, from files to ``metrics.json``, on volumes whose scores are known beforehand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tessera.cli import main
from tessera.evaluate.density import Disc, reconstruction_scores
from tessera.evaluate.tiles import tile_errors, tile_scores, trust_scores
from tessera.evaluate.truth import count_objects
from tessera.evaluate.voxels import class_reader, confusion
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import Layout, Volume, create_volume

SHAPE = (32, 48, 64)
VOXEL = (1.5, 1.5, 1.5)
CHUNK = Triple(16, 16, 16)
MODEL = {
    "classes": ["background", "soma", "vessel"],
    "split": {"train": [{"stop": [32, 48, 20]}], "test": [{"start": [0, 0, 24]}]},
}


def stored(path: Path, data: np.ndarray, channels: tuple[str, ...] = ()) -> Volume:
    layout = Layout(
        Triple(*data.shape[-3:]), str(data.dtype), VOXEL, CHUNK, CHUNK, channels, (3.0, 0.0, 0.0)
    )
    volume = create_volume(path, layout)
    for block in Grid.of(volume.shape, CHUNK):
        volume.write(block.write, data[(..., *block.write.slices)])
    return volume


def labelled(folder: Path, ids: np.ndarray, min_voxels: int) -> Path:
    stored(folder / "labels.zarr", ids.astype(np.uint32))
    known = np.unique(ids[ids > 0])
    where = [np.argwhere(ids == k) for k in known]
    np.savez(
        folder / "objects.npz",
        id=known,
        voxels=[len(w) for w in where],
        centroid_zyx_vox=[w.mean(0) for w in where],
        box_start=[w.min(0) for w in where],
        box_stop=[w.max(0) + 1 for w in where],
    )
    (folder / "store.json").write_text(json.dumps({"min_voxels": min_voxels}))
    (folder / "labels.json").write_text(json.dumps({"path": "labels.zarr"}))
    return folder / "labels.json"


@pytest.fixture
def specimen(tmp_path: Path) -> dict[str, Any]:
    """Four true somas of 6^3 voxels and a small one; one is missed and one false is found.

    Only x >= 24 is scored: somas 2, 3 and 4 and the small 5. Soma 1 lies in the training part.
    """
    ids = np.zeros(SHAPE, np.uint32)
    corners = {1: (4, 4, 4), 2: (4, 4, 30), 3: (4, 30, 30), 4: (20, 4, 50)}
    for identity, (z, y, x) in corners.items():
        ids[z : z + 6, y : y + 6, x : x + 6] = identity
    ids[25:27, 40:42, 40:42] = 5
    classes = (ids > 0).astype(np.uint8)
    classes[:, 20:23, 24:] = 2

    found = np.zeros(SHAPE, np.uint32)
    found[4:10, 4:10, 4:10] = 1
    found[4:10, 4:10, 31:37] = 2  # soma 2, one voxel off
    found[20:26, 4:10, 50:56] = 3  # soma 4
    found[20:26, 38:44, 55:61] = 4  # nothing there
    predicted = (found > 0).astype(np.uint8)
    predicted[:, 20:23, 24:44] = 2

    probabilities = np.stack([np.where(predicted == k, 200, 25).astype(np.uint8) for k in range(3)])
    stored(tmp_path / "truth.zarr", classes)
    stored(tmp_path / "soma_ids.zarr", ids)
    (tmp_path / "predict").mkdir()
    stored(tmp_path / "predict/prob.zarr", probabilities, ("background", "soma", "vessel"))
    (tmp_path / "predict/store.json").write_text("{}")
    (tmp_path / "predict/seams.json").write_text(
        '{"score": 1.02, "faces": 3, "low": 1.0, "high": 1.05, "axes": [1.0, 1.0, 1.02]}'
    )
    (tmp_path / "soma").mkdir()
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["cells"], file["vessels"] = ids.astype(np.uint16), (classes == 2).astype(np.uint8)
    return {
        "folder": tmp_path,
        "labels": labelled(tmp_path / "soma", found, 20),
        "classes": classes,
        "predicted": predicted,
    }


def run(specimen: dict[str, Any], *more: str, model: dict[str, Any] = MODEL) -> dict[str, Any]:
    folder = specimen["folder"]
    status = main(
        ["evaluate", "--settings", '{"match_distance_um": 6, "bootstrap": 100}', *more]
        + ["--model", "tissue", "--model-settings", json.dumps(model)]
        + ["--prediction", str(folder / "predict/store.json")]
        + ["--labels", f"soma={specimen['labels']}", "--out", str(folder / "evaluate")]
    )
    assert status == 0
    return json.loads((folder / "evaluate/metrics.json").read_text())


def simulated(folder: Path) -> list[str]:
    return [
        *("--truth-classes", str(folder / "truth.zarr")),
        *("--truth-ids", str(folder / "soma_ids.zarr")),
    ]


def check_scores(found: dict[str, Any]) -> None:
    """Of somas 2, 3, 4 two are found, of three found objects two are right; worked by hand."""
    for name in ("precision", "recall", "f1"):
        assert found[f"soma.{name}"]["value"] == pytest.approx(2 / 3)
    assert found["soma.count_true"]["value"] == found["soma.count_found"]["value"] == 3
    assert found["soma.count_error"]["value"] == 0
    assert found["soma.centroid_rms"]["value"] == pytest.approx((1.5**2 / 2) ** 0.5)
    # Hits: 5/6 of soma 2 and all of soma 4; 3 somas + 8 voxels are true, 3 somas' worth found.
    hits = 216 * (5 / 6 + 1)
    assert found["soma.dice"]["value"] == pytest.approx(2 * hits / (3 * 216 + 8 + 3 * 216))
    assert found["vessel.dice"]["value"] == pytest.approx(2 * 20 / (20 + 40))
    assert found["vessel.iou"]["value"] == pytest.approx(20 / 40)
    assert found["predict.seam_score"]["value"] == 1.02
    assert found["soma.dice"]["low"] <= found["soma.dice"]["value"] <= found["soma.dice"]["high"]


def test_simulated_truth(specimen: dict[str, Any]) -> None:
    check_scores(run(specimen, *simulated(specimen["folder"])))


def test_labels_of_people(specimen: dict[str, Any]) -> None:
    path = str(specimen["folder"] / "labels.h5")
    sources = [
        {"path": path, "dataset": "cells", "instances_of": "soma"},
        {"path": path, "dataset": "vessels", "instances_of": "vessel"},
    ]
    check_scores(run(specimen, model=MODEL | {"labels": sources}))


def test_class_ids_without_instances_are_taken_apart(specimen: dict[str, Any]) -> None:
    with h5py.File(specimen["folder"] / "labels.h5", "a") as file:
        file["classes"] = specimen["classes"]
    source = {"path": str(specimen["folder"] / "labels.h5"), "dataset": "classes"}
    check_scores(run(specimen, model=MODEL | {"labels": [source]}))


def test_unlabelled_voxels_are_not_scored(specimen: dict[str, Any]) -> None:
    classes = specimen["classes"].copy()
    classes[20:26, 38:44, 55:61] = 255  # nobody looked where the false soma is
    classes[25:27, 40:42, 40:42] = 255
    with h5py.File(specimen["folder"] / "labels.h5", "a") as file:
        file["classes"] = classes
    source = {"path": str(specimen["folder"] / "labels.h5"), "dataset": "classes"}
    found = run(specimen, model=MODEL | {"labels": [source]})
    assert found["soma.dice"]["value"] == pytest.approx(2 * 396 / (648 + 432))


def test_tables_name_matches_misses_and_false_alarms(specimen: dict[str, Any]) -> None:
    run(specimen, *simulated(specimen["folder"]))
    with open(specimen["folder"] / "evaluate/tissue_soma_objects.csv") as file:
        rows = {(r["kind"], r["true_id"], r["found_id"]): r for r in csv.DictReader(file)}
    assert set(rows) == {
        ("match", "2", "2"), ("miss", "3", ""), ("match", "4", "3"), ("false_alarm", "", "4"),
    }  # fmt: skip
    assert float(rows["match", "2", "2"]["true_z_um"]) == pytest.approx(3 + 6.5 * 1.5)
    assert float(rows["match", "2", "2"]["distance_um"]) == pytest.approx(1.5)


def test_pictures_mark_the_missed_and_the_false(specimen: dict[str, Any]) -> None:
    folder = specimen["folder"]
    stored(folder / "volume.zarr", np.random.default_rng(0).random(SHAPE, np.float32))
    (folder / "volume.json").write_text(json.dumps({"path": "volume.zarr"}))
    run(specimen, *simulated(folder), "--volume", str(folder / "volume.json"))
    with np.load(folder / "evaluate/tissue_slices.npz") as data:
        assert data["image"].shape == data["truth"].shape == data["predicted"].shape == (3, 48, 40)
        assert data["start"][:, 0].tolist() == [8, 16, 24]
        assert data["soma.true"][0, 32, 8] == 2, "soma 3 is missed"
        assert data["soma.true"][0, 6, 8] == 1, "soma 2 is found"
        assert data["soma.found"][2, 40, 33] == 2, "a false alarm"


def test_two_models_have_names_of_their_own(specimen: dict[str, Any]) -> None:
    folder = specimen["folder"]
    line = ["evaluate", "--out", str(folder / "evaluate"), *simulated(folder)]
    for name in ("first", "second"):
        line += ["--model", name, "--model-settings", json.dumps(MODEL)]
        line += ["--prediction", str(folder / "predict/store.json")]
    assert main(line) == 0
    found = json.loads((folder / "evaluate/metrics.json").read_text())
    assert {"first.soma.dice", "second.vessel.iou"} <= set(found)


def test_models_that_part_objects_get_segmentation_scores(specimen: dict[str, Any]) -> None:
    found = run(specimen, *simulated(specimen["folder"]), model=MODEL | {"target": "boundaries"})
    assert "soma.dice" not in found
    assert found["soma.coverage"]["value"] == pytest.approx(396 / (3 * 216 + 8))
    assert found["soma.voi_split_both"]["value"] == pytest.approx(0, abs=1e-9)


def test_no_test_boxes_is_said(
    specimen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(specimen, *simulated(specimen["folder"]), model={"classes": MODEL["classes"]}) == {}
    assert "no test boxes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"split": {"train": [{"stop": [9, 9, 9]}], "test": [{"start": [40, 0, 0]}]}}, "outside"),
        ({"classes": ["background", "soma"], "labels": "few"}, "holds class 2"),
    ],
)
def test_bad_input_is_one_sentence(
    specimen: dict[str, Any],
    model: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = specimen["folder"]
    if "labels" in model:
        with h5py.File(folder / "labels.h5", "a") as file:
            file["classes"] = specimen["classes"]
        stored(folder / "predict/classes.zarr", specimen["predicted"])
        model = model | {"labels": [{"path": str(folder / "labels.h5"), "dataset": "classes"}]}
    line = ["evaluate", "--out", str(folder / "out"), *simulated(folder), "--model", "tissue"]
    line += ["--model-settings", json.dumps(MODEL | model)]
    assert main([*line, "--prediction", str(folder / "predict/store.json")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_confusion_is_that_of_whole_arrays(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    truth = random.integers(0, 3, SHAPE).astype(np.uint8)
    probabilities = random.integers(0, 256, (3, *SHAPE)).astype(np.uint8)
    volume = stored(tmp_path / "prob.zarr", probabilities, ("a", "b", "c"))
    boxes = [Box.of((1, 2, 3), (30, 47, 20)), Box.of((0, 0, 25), (32, 48, 64))]
    counts = confusion(lambda b: truth[b.slices], class_reader(volume, "classes"), boxes, 3).sum(0)
    expected = np.zeros((3, 3), int)
    for box in boxes:
        true, found = truth[box.slices], probabilities.argmax(0)[box.slices]
        for k in range(3):
            hit = ((true == k) & (found == k)).sum()
            expected[k] += [hit, (found == k).sum() - hit, (true == k).sum() - hit]
    assert (counts == expected).all()


def test_objects_are_counted_as_scipy_does() -> None:
    from scipy import ndimage

    ids = np.random.default_rng(2).integers(0, 6, (20, 33, 17))
    found = count_objects(lambda b: ids[b.slices], Grid.of(ids.shape, (7, 8, 9)))
    assert found.id.tolist() == [1, 2, 3, 4, 5]
    assert found.voxels.tolist() == np.bincount(ids.ravel())[1:].tolist()
    centres = ndimage.center_of_mass(np.ones(ids.shape), ids, found.id)
    assert found.centroid_vox == pytest.approx(np.array(centres))


def test_tile_errors_by_hand(tmp_path: Path) -> None:
    truth = {
        "voxel_um": [2.0, 2.0, 2.0],
        "tiles": {
            "t0": {"nominal_um": [0, 0, 0], "true_um": [0, 0, 0], "axis_column": 50.0},
            "t1": {"nominal_um": [0, 0, 108], "true_um": [0, 0, 100], "axis_column": 51.0},
            "t2": {"nominal_um": [0, 94, 0], "true_um": [0, 100, 0], "axis_column": 52.0},
        },
    }
    positions = {
        "anchor": "t0",
        "tiles": [
            {"name": "t0", "solved_um": [0, 0, 0]},
            {"name": "t1", "solved_um": [0.6, 0, 100.8]},
            {"name": "t2", "solved_um": [0, 100, 0]},
        ],
    }
    axes = []
    for name, column in (("t0", 50.3), ("t1", 51.0), ("t2", 51.6)):
        (tmp_path / name).mkdir()
        axes.append(tmp_path / name / "axis.json")
        axes[-1].write_text(json.dumps({"column": column}))
    found = tile_scores(tile_errors(truth, positions, axes), 0)
    # t1 is off by (0.3, 0, 0.4) voxels = 0.5; t2 by nothing; the anchor does not count.
    assert found["tiles.position_rms"].value == pytest.approx((0.25 / 2) ** 0.5)
    assert found["tiles.position_max"].value == pytest.approx(0.5)
    assert found["tiles.stage_rms"].value == pytest.approx(((16 + 9) / 2) ** 0.5)
    assert found["tiles.axis_rms"].value == pytest.approx(((0.09 + 0.16) / 3) ** 0.5)
    assert found["tiles.axis_max"].value == pytest.approx(0.4)


def test_without_a_truth_there_are_axes_and_residuals(tmp_path: Path) -> None:
    axes = []
    for name, column, confidence in (("t0", 50.3, 0.9), ("t1", 51.0, 0.7)):
        (tmp_path / name).mkdir()
        axes.append(tmp_path / name / "axis.json")
        axes[-1].write_text(json.dumps({"column": column, "confidence": confidence}))
    pairs = [{"used": True}, {"used": False}]
    found = trust_scores({"pairs": pairs, "rms_vox": 0.12}, axes)
    assert {name: score.value for name, score in found.items()} == {
        "axis.t0": 50.3,
        "axis.t1": 51.0,
        "tiles.axis_confidence": 0.7,
        "tiles.residual_rms": 0.12,
    }
    assert found["tiles.residual_rms"].n == 1
    assert trust_scores(None, []) == {}


def test_reconstruction_error_is_that_of_numpy(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    truth = random.normal(2, 1, SHAPE).astype(np.float32)
    made = (truth + random.normal(0.1, 0.3, SHAPE)).astype(np.float32)
    made[:, :, 40:] = 99  # outside the tile
    disc = Disc(0, 32, 24, 20, 18)
    found = reconstruction_scores(
        stored(tmp_path / "a.zarr", made), stored(tmp_path / "b.zarr", truth), [disc], 3, 20
    )
    y, x = np.mgrid[:48, :64]
    inner = np.zeros(SHAPE, bool)
    inner[3:-3, 3:-3, 3:-3] = True
    inner &= (y - 24) ** 2 + (x - 20) ** 2 <= 15**2
    difference = made[inner].astype(float) - truth[inner]
    rmse = np.sqrt((difference**2).mean())
    assert found["recon.rmse"].value == pytest.approx(rmse)
    assert found["recon.bias"].value == pytest.approx(difference.mean())
    assert found["recon.rmse_relative"].value == pytest.approx(rmse / truth[inner].std(), rel=1e-5)
    correlation = np.corrcoef(made[inner], truth[inner])[0, 1]
    assert found["recon.correlation"].value == pytest.approx(correlation, rel=1e-5)

"""The passes from the command line, Zarr to Zarr."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cc3d
import numpy as np
import pytest

from tessera.cli import main
from tessera.volume.box import Box
from tessera.volume.store import open_volume

from .conftest import Write

SETTINGS = {"threshold": 0.5, "connectivity": 26, "min_voxels": 0, "block": [16, 16, 16]}


def run(
    prediction: Path,
    out: Path,
    batches: int = 1,
    order: int = 1,
    name: str = "soma",
    **more: object,
) -> None:
    """All passes; ``order`` -1 does the batches backwards."""
    given = json.dumps(SETTINGS | more)
    store = ["--settings", given, "--class", name, "--prediction", str(prediction)]
    assert main(["label", "store", *store, "--batches", str(batches), "--out", str(out)]) == 0
    numbers = [str(n) for n in range(batches)][::order]
    for step in ("local", "relabel"):
        for batch in numbers:
            line = ["label", step, "--batch", batch, "--of", str(batches), str(out)]
            assert main(line) == 0
        if step == "local":
            assert main(["label", "merge", str(out)]) == 0
    assert main(["label", "finish", str(out)]) == 0


def blobs(shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    from scipy import ndimage

    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, 1.5)
    rank = smooth.ravel().argsort().argsort().reshape(shape)
    return (rank * 255.0 / rank.max()).astype(np.uint8)


def read(out: Path) -> np.ndarray:
    labels = open_volume(out / "labels.zarr")
    return labels.read(Box.whole(labels.shape))


def shards(out: Path) -> dict[str, str]:
    files = [p for p in (out / "labels.zarr").rglob("*") if p.is_file()]
    files += [out / "objects.npz", out / "labels.json"]
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)
    }


def test_labels_and_objects_of_probabilities(prediction: Write, tmp_path: Path) -> None:
    soma = blobs((40, 37, 33))
    store = prediction(np.stack([255 - soma, soma]))
    run(store, tmp_path / "out", threshold=0.9)
    labels = read(tmp_path / "out")
    truth = cc3d.connected_components((soma >= 0.9 * 255).astype(np.uint8), connectivity=26)
    assert len(np.unique(np.stack([labels, truth], -1).reshape(-1, 2), axis=0)) == truth.max() + 1
    assert labels.max() == truth.max() > 5
    with np.load(tmp_path / "out/objects.npz") as objects:
        assert objects["id"].tolist() == list(range(1, truth.max() + 1))
        for n in objects["id"]:
            places = np.argwhere(labels == n)
            assert objects["voxels"][n - 1] == len(places)
            np.testing.assert_allclose(objects["centroid_zyx_vox"][n - 1], places.mean(0))
            np.testing.assert_array_equal(objects["box_start"][n - 1], places.min(0))
            np.testing.assert_array_equal(objects["box_stop"][n - 1], places.max(0) + 1)
    written = json.loads((tmp_path / "out/labels.json").read_text())
    assert written["objects"] == truth.max()
    assert written["shape"] == [40, 37, 33]
    assert written["voxel_um"] == [0.5, 1.0, 2.0]
    assert written["origin_um"] == [1.0, 2.0, 3.0]


def test_labels_of_a_class_volume(prediction: Write, tmp_path: Path) -> None:
    classes = (blobs((20, 20, 20)) > 200).astype(np.uint8) * 2
    store = prediction(classes, ("background", "soma", "vessel"))
    run(store, tmp_path / "out", name="vessel", connectivity=6)
    truth = cc3d.connected_components(classes, connectivity=6)
    assert read(tmp_path / "out").max() == truth.max()
    run(store, tmp_path / "none", name="soma")
    assert read(tmp_path / "none").max() == 0


def test_bytes_do_not_depend_on_batches_order_or_rerun(prediction: Write, tmp_path: Path) -> None:
    soma = blobs((33, 33, 33))
    store = prediction(np.stack([255 - soma, soma]))
    run(store, tmp_path / "one", threshold=0.8, min_voxels=20)
    known = shards(tmp_path / "one")
    run(store, tmp_path / "many", batches=7, order=-1, threshold=0.8, min_voxels=20)
    assert shards(tmp_path / "many") == known
    run(store, tmp_path / "one", threshold=0.8, min_voxels=20)
    assert shards(tmp_path / "one") == known


def test_all_passes_at_once_and_no_file_a_block_beside_the_shards(
    prediction: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soma = blobs((33, 33, 33))
    store = prediction(np.stack([255 - soma, soma]))
    run(store, tmp_path / "passes", threshold=0.8)
    line = ["--settings", json.dumps(SETTINGS | {"threshold": 0.8}), "--class", "soma"]
    line += ["--prediction", str(store), "--out", str(tmp_path / "one")]
    assert main(["label", "run", *line]) == 0
    assert " objects" in capsys.readouterr().out
    assert shards(tmp_path / "one") == shards(tmp_path / "passes")
    beside = [p for p in (tmp_path / "one").rglob("*") if "labels.zarr" not in p.parts]
    names = {p.name for p in beside if p.is_file()}
    assert names == {
        "store.json",
        "0000.json",
        "tables.npy",
        "merge.npz",
        "objects.npz",
        "labels.json",
    }


def test_a_lost_shard_is_made_again(prediction: Write, tmp_path: Path) -> None:
    soma = blobs((33, 33, 33))
    store = prediction(np.stack([255 - soma, soma]))
    out = tmp_path / "out"
    run(store, out, threshold=0.8)
    known = shards(out)
    lost = out / "labels.zarr/0/c/1/0/1"
    lost.unlink()
    assert main(["label", "relabel", str(out)]) == 0
    assert shards(out) == known


def test_what_is_wrong_is_said(
    prediction: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soma = blobs((16, 16, 16))
    store = prediction(np.stack([255 - soma, soma]))
    out = tmp_path / "out"

    def said(*line: str) -> str:
        assert main(["label", *line]) == 2
        return capsys.readouterr().err

    common = ["--settings", json.dumps(SETTINGS), "--out", str(out)]
    assert "no class 'glia'" in said(
        "store", "--class", "glia", "--prediction", str(store), *common
    )
    assert "tessera predict store" in said(
        "store", "--class", "soma", "--prediction", str(tmp_path / "x.json"), *common
    )
    assert "tessera label store" in said("local", str(out))
    run(store, out)
    assert "batch 1 of 2 does not exist" in said("local", str(out), "--batch", "1", "--of", "2")
    (out / "merge.npz").unlink()
    assert "tessera label merge" in said("relabel", str(out))
    record = out / "local/records/0000.json"
    whole = record.read_text()
    at = whole.index('"packed": "') + 20
    record.write_text(whole[:at] + ("A" if whole[at] != "A" else "B") + whole[at + 1 :])
    assert "remove this file" in said("merge", str(out))
    (store.parent / "records/0000.json").unlink()
    assert "not done" in said("store", "--class", "soma", "--prediction", str(store), *common)

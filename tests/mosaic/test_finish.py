"""Levels, statistics, TIFF and the commands, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tessera.cli import main
from tessera.config import Mosaic, section_json
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tests.mosaic.phantom import Blobs, make_mosaic, write_tile

SETTINGS = section_json(Mosaic(chunk=(16, 16, 16), shard=(32, 32, 32), levels=2, tiff=True))


def test_the_commands_one_after_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = Blobs.random((16, 48, 80))
    tiles = make_mosaic(tmp_path / "recon", blobs, (1, 1, 2), (16, 48, 48), (16, 48, 30), 1.0)
    folder = tmp_path / "mosaic"
    positions = str(folder / "positions.json")
    given = ["--settings", SETTINGS]
    names = [str(t) for t in tiles.folders]
    assert main(["mosaic", "register", *given, "--out", positions, *names]) == 0
    store = ["mosaic", "store", *given, "--batches", "2", "--out", str(folder), positions]
    assert main(store) == 0
    for batch in ("0000", "0001"):
        assert main(["mosaic", "fuse", "--batch", batch, "--of", "2", str(folder)]) == 0
    assert main(["mosaic", "finish", str(folder)]) == 0
    assert "16 x 48 x 78 voxels" in capsys.readouterr().out

    content = json.loads((folder / "volume.json").read_text())
    volume = open_volume(folder / content["path"])
    voxels = volume.read(Box.whole(volume.shape))
    assert content["shape"] == [16, 48, 78] and content["dtype"] == "float32"
    assert content["voxel_um"] == [2.0, 2.0, 2.0] and content["origin_um"] == [0.0, 0.0, 0.0]
    assert content["statistics"]["mean"] == pytest.approx(voxels[voxels != 0].mean(), rel=1e-4)
    np.testing.assert_array_equal(tifffile.imread(folder / "volume.tif"), voxels)
    coarse = open_volume(folder / "volume.zarr", 1)
    blocks = voxels.reshape(8, 2, 24, 2, 39, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse.read(Box.whole(coarse.shape)), blocks, atol=1e-6)
    assert coarse.voxel_um == (4.0, 4.0, 4.0) and coarse.origin_um == (1.0, 1.0, 1.0)
    # Finished again, nothing changes.
    assert main(["mosaic", "finish", str(folder)]) == 0
    assert json.loads((folder / "volume.json").read_text()) == content


def test_a_shut_gate_is_written_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    tiles = [
        str(write_tile(tmp_path / n, rng.normal(size=(8, 40, 40)), (0, 0, 28 * i)))
        for i, n in enumerate("ab")
    ]
    positions = tmp_path / "positions.json"
    assert main(["mosaic", "register", "--out", str(positions), *tiles]) == 2
    error = capsys.readouterr().err
    assert "no overlap of good quality connects b to a" in error and error.count("\n") == 1
    assert not json.loads(positions.read_text())["gate"]["passed"]
    assert main(["mosaic", "store", "--out", str(tmp_path / "m"), str(positions)]) == 2
    assert not (tmp_path / "m").exists()


def test_no_plan_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mosaic", "fuse", str(tmp_path)]) == 2
    assert "run 'tessera mosaic store'" in capsys.readouterr().err


# --- import -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16", "float64"])
def test_a_volume_is_taken_in(tmp_path: Path, dtype: str) -> None:
    voxels = np.random.default_rng(0).uniform(0, 200, (40, 50, 70)).astype(dtype)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("raw", data=voxels, chunks=(8, 16, 16), compression="gzip")
    source = json.dumps(
        {"path": str(tmp_path / "v.h5"), "dataset": "raw", "voxel_um": [1.0, 2.0, 3.0]}
    )
    command = ["mosaic", "import", "--settings", SETTINGS, "--source", source, str(tmp_path / "m")]
    assert main(command) == 0
    content = json.loads((tmp_path / "m/volume.json").read_text())
    volume = open_volume(tmp_path / "m/volume.zarr")
    kept = dtype if dtype in ("uint8", "uint16", "float32") else "float32"
    assert content["dtype"] == kept == str(volume.dtype)
    assert volume.voxel_um == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(volume.read(Box.whole(volume.shape)), voxels.astype(kept))
    # Again: nothing is done twice.
    shard = tmp_path / "m/volume.zarr/0/c/0/0/0"
    before = shard.stat().st_mtime_ns
    assert main(command) == 0 and shard.stat().st_mtime_ns == before


def test_voxels_of_unknown_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"] = np.zeros((4, 5, 6), np.uint8)
    source = json.dumps({"path": str(tmp_path / "v.h5"), "dataset": "raw"})
    assert main(["mosaic", "import", "--source", source, str(tmp_path / "m")]) == 2
    assert "voxel" in capsys.readouterr().err

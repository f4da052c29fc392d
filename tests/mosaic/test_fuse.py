"""Fusion: the same bytes whatever the blocks, true to the scene, bounded in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.mosaic.finish import finish
from tessera.mosaic.fuse import blend_parts, fuse, read_parts, to_dtype
from tessera.mosaic.plan import make_plan, prepare_volume, read_plan, write_plan
from tessera.mosaic.register import Place, register, write_positions
from tessera.mosaic.tile import open_tiles
from tessera.volume.box import Box
from tessera.volume.record import read_record
from tessera.volume.store import open_volume
from tests.mosaic.phantom import Blobs, make_mosaic, write_tile

REPO = Path(__file__).resolve().parents[2]


def settings(**more: Any) -> Mosaic:
    given = {"chunk": (16, 16, 16), "shard": (32, 32, 32), "levels": 2}
    return Mosaic(**(given | more))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Blobs]:
    """positions.json of four solved tiles, and the scene."""
    root = tmp_path_factory.mktemp("tiles")
    blobs = Blobs.random((24, 96, 96))
    mosaic = make_mosaic(
        root / "recon", blobs, (1, 2, 2), (24, 56, 56), (24, 38, 38), 1.5, noise=0.02
    )
    write_positions(root / "positions.json", register(mosaic.folders, settings()))
    return root / "positions.json", blobs


def run(folder: Path, positions: Path, batches: int = 1, **more: Any) -> np.ndarray:
    """All steps; returns the fused voxels."""
    plan = make_plan(positions, settings(**more), batches)
    prepare_volume(folder / "volume.zarr", plan.layout, plan.key, {})
    write_plan(folder, plan)
    for batch in range(batches):
        fuse(folder, batch, batches)
    finish(folder)
    volume = open_volume(folder / "volume.zarr")
    return volume.read(Box.whole(volume.shape))


def test_true_to_the_scene(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    positions, blobs = tiles
    fused = run(tmp_path, positions)
    assert fused.shape == (24, 94, 94)
    truth = blobs.at((0, 0, 0), fused.shape)
    inner = (slice(2, -2), slice(3, -3), slice(3, -3))
    error = (fused - truth)[inner]
    assert error.std() < 0.03  # the noise of one tile is 0.02
    assert np.corrcoef(fused[inner].ravel(), truth[inner].ravel())[0, 1] > 0.99


def test_same_bytes_whatever_blocks_and_batches(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    positions, _ = tiles
    once = run(tmp_path / "a", positions)
    batched = run(tmp_path / "b", positions, batches=5)
    other = run(tmp_path / "c", positions, shard=(16, 64, 48))
    assert once.tobytes() == batched.tobytes() == other.tobytes()
    files = [
        sorted(p for p in (tmp_path / n / "volume.zarr/0").rglob("*") if p.is_file()) for n in "ab"
    ]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    digests = [json.loads((tmp_path / n / "volume.json").read_text())["digest"] for n in "ab"]
    assert digests[0] == digests[1]


def test_a_single_tile_is_copied(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(20, 40, 40)).astype(np.float32)
    folder = write_tile(tmp_path / "only", data, (3, 4, 5))
    write_positions(tmp_path / "positions.json", register([folder], settings()))
    fused = run(tmp_path / "mosaic", tmp_path / "positions.json")
    np.testing.assert_allclose(fused, data, rtol=1e-6)
    volume = open_volume(tmp_path / "mosaic/volume.zarr")
    assert volume.origin_um == (6.0, 8.0, 10.0)


def test_equal_tiles_leave_no_seam(tmp_path: Path) -> None:
    """Tiles of one value, at fractional places: the weights sum to one everywhere."""
    folders = [
        write_tile(tmp_path / f"t{i}", np.full((12, 30, 30), 7.0), (0, 0, 20 * i)) for i in range(2)
    ]
    tiles = open_tiles(folders)
    places = [
        Place(t.name, t.folder, (0.3 * i, 0.0, 20.4 * i), 1.0, 0.0) for i, t in enumerate(tiles)
    ]
    box = Box.whole((12, 30, 50))
    mean, weight = blend_parts(read_parts(tiles, places, box), box)
    np.testing.assert_allclose(mean[weight > 0], 7, rtol=1e-6)
    assert (mean[weight == 0] == 0).all()


def test_a_block_reads_only_what_it_shows(tiles: tuple[Path, Blobs]) -> None:
    plan = make_plan(tiles[0], settings(), 1)
    opened = open_tiles([p.folder for p in plan.places])
    corner = read_parts(opened, plan.places, Box.of((0, 0, 0), (24, 30, 30)))
    assert [p.tile.name for p in corner] == [opened[0].name]
    assert corner[0].data.size < 1.6 * (24 + 15) * 45 * 45


def test_integers_span_the_window(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    positions, _ = tiles
    real = run(tmp_path / "f", positions)
    whole = run(tmp_path / "i", positions, dtype="uint8")
    low, high = read_plan(tmp_path / "i").window or (0, 0)
    assert low == pytest.approx(np.percentile(real, 0.1), abs=0.15)
    assert high == pytest.approx(np.percentile(real, 99.9), abs=0.3)
    back = low + (whole.astype(float) - 1) * (high - low) / 254
    seen = (real > low) & (real < high) & (real != 0)
    assert np.array_equal(whole == 0, real == 0)  # 0 is what no tile shows, and nothing else
    assert np.abs(back - real)[seen].max() <= (high - low) / 254 / 2 * 1.001
    given = run(tmp_path / "g", positions, dtype="uint16", window=(-1.0, 1.0))
    assert (
        given.dtype == np.uint16 and given[real > 1].min() == 65535 and given[real < -1].max() == 1
    )


def test_to_dtype_by_hand() -> None:
    data = np.array([-5, 0, 0.5, 1, 9], np.float32)
    assert to_dtype(data, "uint8", (0.0, 1.0)).tolist() == [1, 1, 128, 255, 255]


def test_only_what_is_torn_is_made_again(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    run(tmp_path, tiles[0])
    volume = open_volume(tmp_path / "volume.zarr")
    shards = volume.shard_files(Box.whole(volume.shape))
    before = {p: p.stat().st_mtime_ns for p in shards}
    content = shards[3].read_bytes()
    shards[3].write_bytes(content[: len(content) // 2])
    # A store that runs again under the same plan keeps what is there.
    plan = make_plan(tiles[0], settings(), 1)
    prepare_volume(tmp_path / "volume.zarr", plan.layout, plan.key, {})
    write_plan(tmp_path, plan)
    fuse(tmp_path, 0, 1)
    assert shards[3].read_bytes() == content
    assert [p for p in shards if p.stat().st_mtime_ns != before[p]] == [shards[3]]


def test_another_plan_makes_all_again(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    run(tmp_path, tiles[0])
    first = read_record(tmp_path / "records/0000.json")
    run(tmp_path, tiles[0], dtype="uint8")
    second = read_record(tmp_path / "records/0000.json")
    assert first is not None and second is not None and first.key != second.key


def test_batches_that_do_not_exist(tiles: tuple[Path, Blobs], tmp_path: Path) -> None:
    run(tmp_path, tiles[0], batches=2)
    for batch, of in ((2, 2), (0, 3)):
        with pytest.raises(TesseraError, match="made for 2 batches"):
            fuse(tmp_path, batch, of)
    (tmp_path / "records/0001.json").unlink()
    with pytest.raises(TesseraError, match="no complete record"):
        finish(tmp_path)


_FUSE = """
import sys
from pathlib import Path
from tessera.mosaic.fuse import fuse
from tessera.compute.measure import peak_mib
fuse(Path(sys.argv[1]), 0, 1)
print(peak_mib())
"""


@pytest.mark.slow
def test_a_larger_mosaic_needs_no_more_memory(tmp_path: Path) -> None:
    """2 x 4 times the tiles, the same peak: a block knows nothing of the rest."""
    peaks = []
    for columns in (1, 4):
        root = tmp_path / str(columns)
        rng = np.random.default_rng(0)
        shape, count = (64, 128, 128), 0
        tiles = []
        for y in range(columns):
            for x in range(columns):
                place = (0, 100 * y, 100 * x)
                tiles.append(write_tile(root / f"t{y}{x}", rng.random(shape), place))
                count += 1
        content = {
            "voxel_um": [2.0] * 3,
            "frame": {"shape": [64, *[100 * columns + 28] * 2], "origin_um": [0.0] * 3},
            "gate": {"passed": True, "reason": None},
            "tiles": [
                {
                    "name": t.name,
                    "folder": str(t),
                    "offset_vox": [0.3, 100 * (i // columns) + 0.4, 100 * (i % columns) + 0.2],
                    "gain": 1.0,
                    "offset": 0.0,
                }
                for i, t in enumerate(tiles)
            ],
        }
        write_positions(root / "positions.json", content)
        plan = make_plan(root / "positions.json", settings(shard=(64, 64, 64)), 1)
        prepare_volume(root / "volume.zarr", plan.layout, plan.key, {})
        write_plan(root, plan)
        done = subprocess.run(
            [sys.executable, "-c", _FUSE, str(root)],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPO,
        )
        peaks.append(float(done.stdout.split()[-1]))
    assert peaks[1] < peaks[0] * 1.1 + 10

"""Tiles of exact sub-pixel places: found, refused, or reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.mosaic.overlap import find_pairs, overlap_box, regions, true_mask
from tessera.mosaic.register import read_positions, register, write_positions
from tessera.mosaic.tile import open_tiles
from tessera.volume.box import Box
from tests.mosaic.phantom import Blobs, make_mosaic, position_rms, write_tile

SETTINGS = Mosaic()


@pytest.mark.parametrize("circle", [False, True])
def test_four_tiles_within_a_twentieth_of_a_voxel(tmp_path: Path, circle: bool) -> None:
    blobs = Blobs.random((32, 150, 150))
    mosaic = make_mosaic(tmp_path, blobs, (1, 2, 2), (32, 80, 80), (32, 60, 60), circle=circle)
    content = register(mosaic.folders, SETTINGS)
    assert content["gate"] == {"passed": True, "reason": None}
    assert position_rms(content, mosaic) < 0.05
    assert content["tiles"][0]["solved_um"] == content["tiles"][0]["nominal_um"]
    # The position is that of the axis and the middle row.
    assert content["tiles"][0]["nominal_um"] == pytest.approx([31.0, 79.0, 79.0])


def test_tiles_above_each_other(tmp_path: Path) -> None:
    blobs = Blobs.random((80, 64, 64))
    mosaic = make_mosaic(tmp_path, blobs, (2, 1, 1), (40, 56, 56), (28, 56, 56))
    assert position_rms(register(mosaic.folders, SETTINGS), mosaic) < 0.025


def test_a_wrong_guess_and_an_empty_overlap(tmp_path: Path) -> None:
    """Of 3 x 3 tiles one is guessed 20 voxels wrong; one overlap shows nothing but noise."""
    blobs = Blobs.random((24, 180, 180), seed=3)
    gone = (blobs.centres[:, 1] < 80) & (np.abs(blobs.centres[:, 2] - 55) < 22)
    blobs = Blobs(blobs.centres[~gone], blobs.sigmas[~gone], blobs.heights[~gone])
    mosaic = make_mosaic(tmp_path, blobs, (1, 3, 3), (24, 64, 64), (24, 46, 46), noise=0.1)
    wrong = mosaic.nominal.copy()
    wrong[4] += (0, 20, 0)
    data = blobs.at(mosaic.true[4], (24, 64, 64))
    write_tile(mosaic.folders[4], data, wrong[4])
    content = register(mosaic.folders, SETTINGS)
    moved = type(mosaic)(mosaic.folders, wrong, mosaic.true)
    assert content["gate"]["passed"]
    assert position_rms(content, moved) < 0.05
    empty = next(p for p in content["pairs"] if (p["a"], p["b"]) == _names(mosaic.folders, 0, 1))
    assert not empty["used"] and empty["quality"] < 0.3


def _names(folders: list[Path], a: int, b: int) -> tuple[str, str]:
    return folders[a].name, folders[b].name


def test_brightness_is_matched(tmp_path: Path) -> None:
    blobs = Blobs.random((24, 70, 120), density=1 / 120)
    a = blobs.at((0, 0, 0), (24, 64, 64)) + 2
    b = 1.04 * (blobs.at((0, 0, 40.5), (24, 64, 64)) + 2) - 0.3
    folders = [
        write_tile(tmp_path / "a", a, (0, 0, 0)),
        write_tile(tmp_path / "b", b, (0, 0, 40)),
    ]
    content = register(folders, SETTINGS)
    first, second = ((t["gain"], t["offset"]) for t in content["tiles"])
    # Of one tile against the other; what both share is the reconstruction's to say.
    assert second[0] * 1.04 / first[0] == pytest.approx(1, abs=0.01)
    shown_a, shown_b = first[0] * 2 + first[1], second[0] * (1.04 * 2 - 0.3) + second[1]
    assert shown_a == pytest.approx(shown_b, abs=0.02)
    plain = register(folders, Mosaic(match_brightness=False))
    assert {(t["gain"], t["offset"]) for t in plain["tiles"]} == {(1.0, 0.0)}


def test_a_turned_tile_is_reported(tmp_path: Path) -> None:
    """The second tile is turned by 0.4 degrees about z through its own middle."""
    angle = np.radians(0.4)
    shape, place = (20, 220, 70), np.array([0.0, 0.0, 40.0])
    blobs = Blobs.random((20, 220, 110))
    middle = place[1:] + (np.array(shape[1:]) - 1) / 2
    y, x = (blobs.centres[:, 1:] - middle).T
    turned = blobs.centres.copy()
    turned[:, 1] = middle[0] + np.cos(angle) * y + np.sin(angle) * x
    turned[:, 2] = middle[1] - np.sin(angle) * y + np.cos(angle) * x
    other = Blobs(turned, blobs.sigmas, blobs.heights)
    folders = [
        write_tile(tmp_path / "a", blobs.at((0, 0, 0), shape), (0, 0, 0)),
        write_tile(tmp_path / "b", other.at(place, shape), place),
    ]
    turn = register(folders, Mosaic(max_residual_vox=2.0))["pairs"][0]["turn"]
    assert turn["there"] and abs(turn["rotation_deg"][0]) == pytest.approx(0.4, rel=0.15)
    still = write_tile(tmp_path / "c", blobs.at(place, shape), place)
    assert not register([folders[0], still], SETTINGS)["pairs"][0]["turn"]["there"]


def test_air_between_tiles_shuts_the_gate_and_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folders = [
        write_tile(tmp_path / n, rng.normal(size=(16, 48, 48)), (0, 0, 32 * i))
        for i, n in enumerate("ab")
    ]
    content = register(folders, SETTINGS)
    assert not content["gate"]["passed"] and "connects b to a" in content["gate"]["reason"]
    write_positions(tmp_path / "positions.json", content)
    with pytest.raises(TesseraError, match="no overlap of good quality"):
        read_positions(tmp_path / "positions.json")


def test_positions_move_with_their_folder(tmp_path: Path) -> None:
    blobs = Blobs.random((16, 48, 80))
    mosaic = make_mosaic(tmp_path / "recon", blobs, (1, 1, 2), (16, 48, 48), (16, 48, 30), 1.0)
    write_positions(tmp_path / "mosaic/positions.json", register(mosaic.folders, SETTINGS))
    text = json.loads((tmp_path / "mosaic/positions.json").read_text())
    assert text["tiles"][1]["folder"] == "../recon/tile_z0_y0_x1"
    _, places = read_positions(tmp_path / "mosaic/positions.json")
    assert (places[1].folder / "tile.zarr").is_dir()


# --- bad input --------------------------------------------------------------------------------


def flat(folder: Path, shape: tuple[int, int, int], x: float, voxel_um: float = 2.0) -> Path:
    return write_tile(folder, np.ones(shape), (0, 0, x), voxel_um=voxel_um)


def refused(folders: list[Path], match: str) -> None:
    with pytest.raises(TesseraError, match=match) as error:
        register(folders, SETTINGS)
    assert error.value.exit_status == 2


def test_tiles_of_different_shapes(tmp_path: Path) -> None:
    refused(
        [flat(tmp_path / "a", (8, 32, 32), 0), flat(tmp_path / "b", (8, 32, 30), 20)],
        "tiles of one shape",
    )


def test_tiles_of_different_voxels(tmp_path: Path) -> None:
    refused(
        [flat(tmp_path / "a", (8, 32, 32), 0), flat(tmp_path / "b", (8, 32, 32), 20, 1.0)],
        "same pixel size",
    )


def test_tiles_that_do_not_overlap(tmp_path: Path) -> None:
    refused([flat(tmp_path / "a", (8, 32, 32), 0), flat(tmp_path / "b", (8, 32, 32), 90)], "unit")


def test_a_tile_given_twice(tmp_path: Path) -> None:
    a = flat(tmp_path / "a", (8, 32, 32), 0)
    refused([a, a], "given twice")
    refused([a, flat(tmp_path / "b", (8, 32, 32), 0)], "lies where")


def test_no_tile_here(tmp_path: Path) -> None:
    refused([tmp_path], "no OME-Zarr")


# --- overlaps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [(0, 30), (22, 22), (5, 33), (0, 4)])
def test_the_lens_of_two_circles(tmp_path: Path, gap: tuple[int, int]) -> None:
    """The box holds the common voxels and no empty plane, as counting them tells."""
    data = np.zeros((4, 41, 41))
    a = write_tile(tmp_path / "a", data, (0, 0, 0), radius_vox=20.0)
    b = write_tile(tmp_path / "b", data, (0, *gap), radius_vox=20.0)
    tiles = open_tiles([a, b])
    frame = Box.of((0, -5, -5), (4, 90, 90))
    common = np.argwhere(true_mask(tiles[0], frame) & true_mask(tiles[1], frame))
    box = overlap_box(*tiles, (0.0, 0.0, 0.0))
    assert tuple(common.min(axis=0) + frame.start) == tuple(box.start)
    assert tuple(common.max(axis=0) + frame.start + 1) == tuple(box.stop)


def test_corners_of_circles_are_no_overlap(tmp_path: Path) -> None:
    data = np.zeros((4, 41, 41))
    square = [write_tile(tmp_path / f"s{i}", data, (0, 30 * i, 30 * i)) for i in range(2)]
    round_ = [write_tile(tmp_path / f"r{i}", data, (0, 30 * i, 30 * i), 20.0) for i in range(2)]
    assert len(find_pairs(open_tiles(square))) == 1
    assert find_pairs(open_tiles(round_)) == []


@pytest.mark.parametrize("shape", [(20, 30, 500), (64, 64, 64), (1, 9, 65), (300, 300, 300)])
def test_regions_are_bounded_and_reach_the_ends(shape: tuple[int, int, int]) -> None:
    whole = Box.of((5, -7, 3), (5 + shape[0], -7 + shape[1], 3 + shape[2]))
    parts = regions(whole)
    assert 1 <= len(parts) <= 64
    assert all(whole.contains(p) and max(p.shape) <= 64 for p in parts)
    assert min(p.start for p in parts) == whole.start and max(p.stop for p in parts) == whole.stop

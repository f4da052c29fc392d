"""Volumes on disk: what is read is what was written, and nothing may tear a shard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TesseraError
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.mirror import mirror
from tessera.volume.store import Layout, create_volume, open_volume, write_errors

LAYOUT = Layout(
    Triple(20, 30, 41),
    "uint16",
    (1.0, 0.5, 0.25),
    Triple(4, 8, 8),
    Triple(8, 16, 16),
    origin_um=(10.0, 20.0, 30.0),
    levels=3,
)
DATA = np.random.default_rng(0).integers(1, 60000, LAYOUT.shape).astype(np.uint16)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume written block by block."""
    path = tmp_path_factory.mktemp("store") / "v.zarr"
    volume = create_volume(path, LAYOUT, {"seed": 7})
    for block in Grid.of(LAYOUT.shape, LAYOUT.shard):
        volume.write(block.write, DATA[block.write.slices])
    return path


@st.composite
def anywhere(draw: st.DrawFn) -> Box:
    start = [draw(st.integers(-12, n - 1)) for n in LAYOUT.shape]
    return Box.of(start, [a + draw(st.integers(1, 24)) for a in start])


@settings(deadline=None, max_examples=60)
@given(anywhere(), st.integers(1, 3))
def test_beyond_the_edge_it_mirrors_as_numpy_does(path: Path, box: Box, threads: int) -> None:
    margin = 45
    padded = np.pad(DATA, margin, mode="reflect")
    expected = padded[box.shift((margin,) * 3).slices]
    np.testing.assert_array_equal(open_volume(path).read(box, threads=threads), expected)


@given(st.integers(1, 9), st.integers(-40, 40))
def test_mirror_is_periodic(size: int, index: int) -> None:
    line = np.pad(np.arange(size), (40, 50), mode="reflect") if size > 1 else np.zeros(91, int)
    assert mirror(np.array([index]), size)[0] == line[index + 40]


def test_metadata_as_the_standard_says(path: Path) -> None:
    meta = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert meta["version"] == "0.5"
    scales = meta["multiscales"][0]
    assert [(a["name"], a["unit"]) for a in scales["axes"]] == [(n, "micrometer") for n in "zyx"]
    scale, move = scales["datasets"][2]["coordinateTransformations"]
    assert scale["scale"] == [4.0, 2.0, 1.0]
    # Four voxels from 10, 11, 12, 13 have their middle at 11.5.
    assert move["translation"] == [11.5, 20.75, 30.375]
    volume = open_volume(path, 1)
    assert volume.shape == (10, 15, 21) and volume.voxel_um == (2.0, 1.0, 0.5)
    assert volume.provenance == {"seed": 7} and volume.levels == 3


def test_any_reader_of_zarr_reads_it(path: Path) -> None:
    array = zarr.open_array(path / "0", mode="r")
    np.testing.assert_array_equal(np.asarray(array[:]), DATA)


def test_threads_write_the_same_bytes_and_raise_when_all_are_done(tmp_path: Path) -> None:
    whole, files = Box.whole(LAYOUT.shape), {}
    for threads in (1, 3):
        volume = create_volume(tmp_path / f"{threads}.zarr", LAYOUT)
        volume.write(whole, DATA, threads)
        files[threads] = volume.shard_files(whole)
        assert (zarr.open_array(volume.path / "0", mode="r")[:] == DATA).all()
    assert len(files[3]) > 3
    for one, other in zip(files[1], files[3], strict=True):
        assert one.read_bytes() == other.read_bytes()
    files[3][0].unlink()
    files[3][0].mkdir()  # where a shard should go, nothing can
    with pytest.raises(OSError):
        volume.write(whole, DATA + 1, threads)
    assert not list(volume.path.rglob("*.partial"))
    assert all(
        (a.read_bytes() != b.read_bytes()) for a, b in zip(files[1][1:], files[3][1:], strict=True)
    )


def test_one_file_a_shard(path: Path) -> None:
    volume = open_volume(path)
    there = {p for p in (path / "0/c").rglob("*") if p.is_file()}
    assert there == set(volume.shard_files(Box.whole(LAYOUT.shape)))
    corner = volume.shard_files(Box.of((0, 0, 0), (8, 16, 16)))
    assert [p.relative_to(path).as_posix() for p in corner] == ["0/c/0/0/0"]
    assert len(volume.shard_files(Box.of((7, 15, 15), (9, 17, 17)))) == 8


@pytest.mark.parametrize(
    "box",
    [((0, 0, 0), (8, 16, 8)), ((4, 0, 0), (8, 16, 16)), ((16, 16, 32), (24, 32, 48))],
)
def test_a_part_of_a_shard_is_refused(path: Path, box: tuple) -> None:
    part = Box.of(*box)
    with pytest.raises(ValueError, match="whole shards"):
        open_volume(path).write(part, np.zeros(part.shape, np.uint16))


def test_voxels_that_do_not_fill_the_box(path: Path) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        open_volume(path).write(Box.of((0, 0, 0), (8, 16, 16)), np.zeros((8, 16, 15), np.uint16))


def test_a_torn_shard_at_the_edge_can_be_written_again(tmp_path: Path) -> None:
    layout = Layout(Triple(10, 10, 10), "float32", (1.0,) * 3, Triple(8, 8, 8), Triple(8, 8, 8))
    volume = create_volume(tmp_path / "v.zarr", layout)
    data = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    volume.write(Box.whole(layout.shape), data)
    for file in volume.shard_files(Box.whole(layout.shape)):
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(TesseraError, match="is damaged"):
        open_volume(tmp_path / "v.zarr").read(Box.whole(layout.shape))
    open_volume(tmp_path / "v.zarr").write(Box.whole(layout.shape), data)
    np.testing.assert_array_equal(open_volume(tmp_path / "v.zarr").read(Box.whole((10,) * 3)), data)


def test_channels_come_first(tmp_path: Path) -> None:
    layout = Layout(
        Triple(8, 8, 8), "uint8", (1.0,) * 3, Triple(4, 4, 4), Triple(8, 8, 8), ("a", "b")
    )
    volume = create_volume(tmp_path / "v.zarr", layout)
    data = np.random.default_rng(0).integers(1, 255, (2, 8, 8, 8)).astype(np.uint8)
    volume.write(Box.whole(layout.shape), data)
    again = open_volume(tmp_path / "v.zarr")
    assert again.channels == ("a", "b") and again.has_channels and again.shape == (8, 8, 8)
    grown = again.read(Box.of((-1, 0, 0), (8, 8, 9)))
    np.testing.assert_array_equal(grown, np.pad(data, ((0, 0), (1, 0), (0, 0), (0, 1)), "reflect"))
    (file,) = again.shard_files(Box.whole(layout.shape))
    assert file.is_file()


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TesseraError, match="no OME-Zarr volume here"):
        open_volume(tmp_path)
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(TesseraError, match="cannot be read"):
        open_volume(tmp_path)
    with pytest.raises(TesseraError, match="whole chunks"):
        Layout(Triple(8, 8, 8), "uint8", (1.0,) * 3, Triple(5, 4, 4), Triple(8, 8, 8))
    with pytest.raises(TesseraError, match="disk is full"), write_errors(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(TesseraError, match="own"), write_errors(tmp_path):
        raise PermissionError(13, "Permission denied")

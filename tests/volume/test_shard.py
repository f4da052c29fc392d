"""Our shards, read by those who wrote the format: zarr-python, and zarrs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from tessera.errors import TesseraError
from tessera.volume import metadata
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.store import Layout, create_volume, open_volume

PIPELINES = ("zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline")
SIZE = st.tuples(*[st.integers(1, 30)] * 3)


def read(path: Path, pipeline: str) -> np.ndarray:
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        return np.asarray(zarr.open_array(path / "0", mode="r")[...])


@settings(max_examples=40, deadline=None)
@given(
    SIZE,
    st.tuples(*[st.sampled_from((1, 2, 3))] * 3),
    st.sampled_from(("uint8", "uint16", "uint32", "float32", "uint64")),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_what_is_written_is_read_by_both(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    times: tuple[int, int, int],
    dtype: str,
    channels: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("shard") / "v.zarr"
    shard = Triple(*(4 * t for t in times))
    names = tuple("abc"[:channels])
    volume = create_volume(
        path, Layout(Triple(*shape), dtype, (1, 1, 1), Triple(4, 4, 4), shard, names)
    )
    random = np.random.default_rng(seed)
    size = (channels, *shape) if channels else shape
    data = random.integers(0, 250, size).astype(dtype)
    for block in Grid.of(shape, shard):
        if random.random() < 0.4:  # whole shards of nothing
            data[(..., *block.write.slices)] = 0
        if random.random() < 0.4:  # and chunks
            z, y, x = (slice(a, a + 4) for a in block.write.start)
            data[..., z, y, x] = 0
        volume.write(block.write, data[(..., *block.write.slices)])
        (file,) = volume.shard_files(block.write)
        assert file.exists()
    np.testing.assert_array_equal(volume.read(Box.whole(shape)), data)
    for pipeline in PIPELINES:
        np.testing.assert_array_equal(read(path, pipeline), data)


def one(folder: Path) -> Any:
    return create_volume(
        folder / "v.zarr",
        Layout(Triple(8, 8, 8), "uint16", (1, 1, 1), Triple(4, 4, 4), Triple(8, 8, 8)),
    )


def test_it_is_as_large_as_zarrs_own(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9, (8, 8, 8)).astype(np.uint16)
    volume = one(tmp_path)
    volume.write(Box.whole((8, 8, 8)), data)
    (file,) = volume.shard_files(Box.whole((8, 8, 8)))
    ours = file.read_bytes()
    zarr.open_array(tmp_path / "v.zarr/0", mode="r+")[...] = data
    theirs = file.read_bytes()
    assert len(ours) == len(theirs)  # chunks stand in another order


def test_several_shards_at_once(tmp_path: Path) -> None:
    layout = Layout(Triple(20, 9, 17), "uint8", (1, 1, 1), Triple(4, 4, 4), Triple(8, 8, 8))
    data = np.random.default_rng(1).integers(1, 250, layout.shape).astype(np.uint8)
    volume = create_volume(tmp_path / "v.zarr", layout)
    volume.write(Box.whole(layout.shape), data)
    np.testing.assert_array_equal(volume.read(Box.whole(layout.shape)), data)
    for pipeline in PIPELINES:
        np.testing.assert_array_equal(read(tmp_path / "v.zarr", pipeline), data)
    again = create_volume(tmp_path / "w.zarr", layout)
    for block in Grid.of(layout.shape, layout.shard):
        again.write(block.write, data[block.write.slices])
    for first, second in zip(
        volume.shard_files(Box.whole(layout.shape)),
        again.shard_files(Box.whole(layout.shape)),
        strict=True,
    ):
        assert first.read_bytes() == second.read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_zarr_writes_is_read_by_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """zarr-python stores chunks in another order, and no shards of zeros."""
    path = tmp_path_factory.mktemp("theirs") / "v.zarr"
    shape = data.draw(SIZE)
    channels = data.draw(st.integers(0, 3))
    dtype = data.draw(st.sampled_from(("uint8", "int16", "uint32", "float32", "float64")))
    size = (channels, *shape) if channels else shape
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    truth = (random.integers(0, 99, size) * (random.random(size) < 0.01)).astype(dtype)
    layout = Layout(
        Triple(*shape), dtype, (1, 1, 1), Triple(4, 4, 4), Triple(8, 4, 12), tuple("abc"[:channels])
    )
    create_volume(path, layout)
    attributes = json.loads((path / "zarr.json").read_text())
    del attributes["attributes"]["tessera"]["every_shard_is_a_file"]
    (path / "zarr.json").write_text(json.dumps(attributes))
    zarr.open_array(path / "0", mode="r+")[...] = truth
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    box = Box.of(tuple(start), tuple(stop))
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(box), truth[(..., *box.slices)])
    if channels:
        np.testing.assert_array_equal(volume.read(box, channels - 1), truth[-1][box.slices])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("channels", [(), ("a", "b")])
def test_what_zarr_lays_out_is_known_again(
    tmp_path: Path, dtype: str, channels: tuple[str, ...]
) -> None:
    chunk, shard = Triple(4, 8, 8), Triple(8, 16, 16)
    create_volume(
        tmp_path / "v", Layout(Triple(20, 30, 41), dtype, (1, 1, 1), chunk, shard, channels)
    )
    theirs = zarr.open_array(tmp_path / "v/0", mode="r")
    written = metadata.read(tmp_path / "v/0")
    known = metadata.recognise(written)
    assert known is not None and theirs.shards is not None
    assert (known.shape, known.chunk, known.shard) == (theirs.shape, theirs.chunks, theirs.shards)
    assert known.dtype == theirs.dtype


@pytest.mark.parametrize(
    "other",
    [
        {"fill_value": 1},
        {"dtype": "complex64"},
        {"shards": None},
        {"compressors": (ZstdCodec(level=3),)},
        {"compressors": (ZstdCodec(level=3, checksum=True), Crc32cCodec())},
        {"serializer": BytesCodec(endian="big")},
        {"chunk_key_encoding": {"name": "v2"}},
        {"filters": (TransposeCodec(order=(2, 1, 0)),)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_layouts_are_read_by_zarr(tmp_path: Path, other: dict[str, Any]) -> None:
    one(tmp_path)
    given = {"dtype": "uint16", "chunks": (4, 4, 4), "shards": (8, 8, 8), "fill_value": 0}
    given["compressors"] = (ZstdCodec(level=3), Crc32cCodec())
    array = zarr.create_array(
        tmp_path / "v.zarr/0", shape=(8, 8, 8), overwrite=True, **given | other
    )
    data = np.random.default_rng(0).integers(1, 99, (8, 8, 8)).astype(array.dtype)
    array[...] = data
    assert metadata.recognise(metadata.read(tmp_path / "v.zarr/0")) is None
    volume = open_volume(tmp_path / "v.zarr")
    np.testing.assert_array_equal(volume.read(Box.of((1, 2, 3), (5, 8, 7))), data[1:5, 2:8, 3:7])


def test_zeros_take_the_place_of_what_was_there(tmp_path: Path) -> None:
    volume, box = one(tmp_path), Box.whole((8, 8, 8))
    volume.write(box, np.ones(box.shape, np.uint16))
    volume.write(box, np.zeros(box.shape, np.uint16))
    (file,) = volume.shard_files(box)
    assert file.stat().st_size == 8 * 16 + 4  # the index of eight chunks, and nothing else
    assert not open_volume(tmp_path / "v.zarr").read(box).any()
    for pipeline in PIPELINES:
        assert not read(tmp_path / "v.zarr", pipeline).any()


def test_a_shard_that_is_missing_is_refused(tmp_path: Path) -> None:
    """Zarr would take it for zeros, and what follows would be computed from nothing."""
    layout = Layout(Triple(8, 8, 16), "uint8", (1, 1, 1), Triple(4, 4, 4), Triple(8, 8, 8))
    volume = create_volume(tmp_path / "v.zarr", layout)
    box = Box.whole(layout.shape)
    volume.write(box, np.ones(box.shape, np.uint8))
    volume.shard_files(box)[1].unlink()
    assert volume.read(Box.whole((8, 8, 8))).all()
    with pytest.raises(TesseraError, match=r"0/c/0/0/1: this shard is missing; run 'tessera ver"):
        volume.read(Box.of((0, 0, 7), (1, 1, 9)))


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    volume, box = one(tmp_path), Box.whole((8, 8, 8))
    volume.write(box, np.random.default_rng(0).integers(1, 9999, box.shape).astype(np.uint16))
    (file,) = volume.shard_files(box)
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    for pipeline in PIPELINES:
        with pytest.raises(Exception, match=r"(?i)checksum|crc|codec"):
            read(tmp_path / "v.zarr", pipeline)
    with pytest.raises(TesseraError, match="damaged, a checksum"):
        volume.read(box)
    for left in range(len(content)):
        file.write_bytes(content[:left])
        with pytest.raises(TesseraError, match="damaged"):
            volume.read(box)


def test_volumes_of_others_are_only_read(tmp_path: Path) -> None:
    one(tmp_path)
    zarr.create_array(
        str(tmp_path / "v.zarr/0"), shape=(8, 8, 8), chunks=(4, 4, 4), dtype="u2", overwrite=True
    )
    volume = open_volume(tmp_path / "v.zarr")
    with pytest.raises(ValueError, match="only read"):
        volume.write(Box.whole((8, 8, 8)), np.ones((8, 8, 8), np.uint16))

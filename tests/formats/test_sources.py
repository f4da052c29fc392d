"""Volumes in every format read the same, box by box."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.config import VolumeSource
from tessera.errors import TesseraError
from tessera.formats import open_source
from tessera.formats.sample import highest_label
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume

SHAPE = (11, 13, 9)
VOXELS = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)


def source(path, dataset=None, voxel_um=None) -> VolumeSource:
    return VolumeSource(path=str(path), dataset=dataset, voxel_um=voxel_um)


def hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"] = VOXELS
        file["labels/cells"] = VOXELS
        file["points"] = np.zeros((4, 3))
        file.attrs["voxel_size_nm"] = [2000, 1000, 500]
    return source(folder / "a.h5", "raw")


def hdf5_channel(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", data=VOXELS[None]).attrs["element_size_um"] = [2, 1, 0.5]
    return source(folder / "a.h5")


def planes(folder):
    for z, plane in enumerate(VOXELS):
        tifffile.imwrite(folder / f"p{z}.tif", plane)
    return source(folder, voxel_um=(2, 1, 0.5))


def planes_glob(folder):
    planes(folder)
    return source(folder / "p*.tif", voxel_um=(2, 1, 0.5))


def imagej(folder):
    tifffile.imwrite(
        folder / "a.tif",
        VOXELS,
        imagej=True,
        resolution=(2.0, 1.0),
        metadata={"spacing": 2.0, "unit": "um", "axes": "ZYX"},
    )
    return source(folder / "a.tif")


def compressed_pages(folder):
    tifffile.imwrite(folder / "a.tif", VOXELS, compression="zlib", photometric="minisblack")
    return source(folder / "a.tif", voxel_um=(2, 1, 0.5))


def own_zarr(folder):
    layout = Layout(Triple(*SHAPE), "uint16", (2.0, 1.0, 0.5), Triple(8, 8, 8), Triple(16, 16, 16))
    create_volume(folder / "a.zarr", layout).write(Box.whole(SHAPE), VOXELS)
    return source(folder / "a.zarr")


def ome_zarr_4(folder):
    """OME-Zarr 0.4 (Zarr 2), five axes, nanometres."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    group.create_array("s0", data=VOXELS[None, None], chunks=(1, 1, 4, 4, 4))
    axes = [{"name": n, "type": "time" if n == "t" else "channel"} for n in "tc"]
    axes += [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 2000, 1000, 500]}
    group.attrs["multiscales"] = [
        {"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": [scale]}]}
    ]
    return source(folder / "a.zarr")


def plain_zarr(folder):
    zarr.create_array(folder / "a.zarr", data=VOXELS, chunks=(4, 4, 4))
    return source(folder / "a.zarr", voxel_um=(2, 1, 0.5))


WRITERS = [
    hdf5, hdf5_channel, planes, planes_glob, imagej, compressed_pages, own_zarr, ome_zarr_4,
    plain_zarr,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)
def test_every_format_reads_alike(write, tmp_path):
    with open_source(write(tmp_path)) as volume:
        assert volume.shape == SHAPE and volume.dtype == np.uint16
        assert volume.voxel_um == pytest.approx((2.0, 1.0, 0.5))
        volume.probe()

        @settings(max_examples=8, deadline=None)
        @given(st.data())
        def boxes(data):
            start = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
            stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, SHAPE, strict=True)]
            box = Box.of(start, stop)
            np.testing.assert_array_equal(volume.read(box), VOXELS[box.slices])

        boxes()


def said(given) -> str:
    with pytest.raises(TesseraError) as caught:
        open_source(given).probe()
    text = str(caught.value)
    assert "\n" not in text and given.path in text
    return text


def test_bad_sources(tmp_path):
    hdf5(tmp_path)
    path = tmp_path / "a.h5"
    assert "no such volume" in said(source(tmp_path / "nothing.tif"))
    assert "no such file" in said(source(tmp_path / "nothing.h5"))
    assert "there: labels/cells, raw" in said(source(path))
    assert "no dataset 'row' (there: labels/cells, raw)" in said(source(path, "row"))
    assert "three axes" in said(source(path, "points"))
    (tmp_path / "notes.txt").write_text("no volume")
    assert "is no HDF5, TIFF or Zarr" in said(source(tmp_path / "notes.txt"))
    (tmp_path / "empty").mkdir()
    assert "no such volume" in said(source(tmp_path / "empty"))
    (tmp_path / "bad.tif").write_bytes(b"no picture")
    assert "cannot be read as TIFF" in said(source(tmp_path / "bad.tif"))
    with h5py.File(path, "a") as file:
        file.attrs["voxel_size_nm"] = [0, 10, 10]
    assert "not three positive sizes" in said(source(path, "raw"))


def test_torn_zarr(tmp_path):
    given = own_zarr(tmp_path)
    for shard in (tmp_path / "a.zarr/0/c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(shard.read_bytes()[:100])
    assert "torn" in said(given)


def test_planes_of_two_sizes(tmp_path):
    given = planes(tmp_path)
    tifffile.imwrite(tmp_path / "p5.tif", VOXELS[0, :5])
    with pytest.raises(TesseraError, match="planes of one size"), open_source(given) as volume:
        volume.read(Box.whole(SHAPE))


def test_highest_label_leaves_out_what_nobody_has_looked_at(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 4, 5], labels[0] = 4, 255
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = labels
    with open_source(source(tmp_path / "a.h5")) as volume:
        assert highest_label(volume) == 4


def test_ome_metadata_is_json(tmp_path):
    """What this package writes is what it reads: the spacing stands in the OME metadata."""
    own_zarr(tmp_path)
    attributes = json.loads((tmp_path / "a.zarr/zarr.json").read_text())["attributes"]
    assert attributes["ome"]["multiscales"][0]["axes"][0]["unit"] == "micrometer"

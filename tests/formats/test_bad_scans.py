"""Every way in which a scan can be bad is one sentence: what, where, what to do."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from tessera.errors import TesseraError
from tessera.formats import nominal_frame, open_scan, scan_header
from tessera.formats.sample import check_frames, check_projections
from tessera.formats.scan import angles_of, check_angles, pixel_of

from .conftest import COLUMNS, COUNT, PIXEL, ROWS, STAGE, exchange, frames, tiffs


def refused(path, look=None) -> str:
    """Open, take the angles, look at frames; return the sentence."""
    with pytest.raises(TesseraError) as caught, open_scan(path) as scan:
        angles_of(scan, None)
        check_frames(scan)
    said = str(caught.value)
    assert str(path) in said and "\n" not in said and len(said) < 400
    return said


def with_value(value, at):
    data = frames(COUNT, 700, 1, "float32")
    data[at] = value
    return data


BAD = {
    "no flats": (dict(data_white=None), "holds no flats"),
    "no darks": (dict(data_dark=None), "holds no darks"),
    "empty flats": (dict(data_white=np.zeros((0, ROWS, COLUMNS))), "holds no flats"),
    "flats of another region": (dict(data_white=np.ones((2, ROWS, 9))), "6 x 9 pixels"),
    "no stack": (dict(data=np.ones((ROWS, COLUMNS))), "three axes"),
    "dropped frame": (dict(data=frames(COUNT - 1, 700)), "20 angles but 19 projections"),
    "theta too short": (dict(theta=np.arange(5.0) * 36), "5 angles but 20 projections"),
    "radians": (dict(theta=np.arange(COUNT) * np.pi / COUNT), "looks like radians"),
    "degrees called radians": (
        dict(theta=np.arange(COUNT) * 9.0, units={"exchange/theta": "rad"}),
        "unit says radians",
    ),
    "45 degrees": (dict(theta=np.arange(COUNT) * 45.0 / COUNT), "cover 45.0 degrees"),
    "angle twice": (dict(theta=np.r_[0:90:10j, 90:180:10j]), "occurs twice"),
    "unsorted": (dict(theta=np.r_[np.arange(18) * 10.0, 5.0, 190.0]), "not sorted"),
    "angle not a number": (dict(theta=np.r_[np.arange(19) * 9.0, np.nan]), "not numbers"),
    "NaN": (dict(data=with_value(np.nan, (10, 2, 3))), "projection 10 holds values"),
    "infinite": (dict(data=with_value(np.inf, (0, 2, 3))), "projection 0 holds values"),
    "all zero": (dict(data=with_value(0.0, 19)), "projection 19 is all zero"),
    "flat not a number": (dict(data_white=with_value(np.nan, 1)), "flat 1 holds values"),
    "saturated flats": (dict(data_white=np.full((4, ROWS, COLUMNS), 65535, "u2")), "saturated"),
    "saturated at 12 bits": (dict(data_white=np.full((4, ROWS, COLUMNS), 4095, "u2")), "saturated"),
    "dark flats": (dict(data_white=frames(4, 100, 2)), "no brighter than darks"),
    "flats and darks exchanged": (
        dict(data_white=frames(4, 100, 2), data_dark=frames(4, 1000, 3)),
        "no brighter than darks",
    ),
    "stage in volts": (dict(units={STAGE + "x": "V"}), "is no length"),
    "pixel in pixels": (dict(units={PIXEL: "pixels"}), "is no length"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scan(case, scan):
    changes, sentence = BAD[case]
    assert sentence in refused(scan(**dict(changes)))


def test_dead_row(scan):
    white = frames(4, 1000, 2)
    white[:, 4] = 100
    assert "row 4 is dead throughout" in refused(scan(data_white=white))


@pytest.mark.parametrize("pixel", [0.0, -1.3, 1.3e-6, 1300.0])
def test_pixel_in_a_wrong_unit(pixel, scan):
    path = scan(**{PIXEL: pixel})
    header = scan_header(path)
    with pytest.raises(TesseraError, match="give recon.pixel_um"):
        pixel_of(header, None, path)
    assert pixel_of(header, 1.5, path) == 1.5


def test_no_pixel(scan):
    path = scan(**{PIXEL: None})
    with pytest.raises(TesseraError, match="does not say how large its pixels are"):
        pixel_of(scan_header(path), None, path)


def test_truncated_file(scan):
    path = scan()
    os.truncate(path, path.stat().st_size // 2)
    assert "is cut off" in refused(path)


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all" * 100])
def test_no_hdf5(content, tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(content)
    assert "not a readable HDF5 file" in refused(path)


def test_torn_chunk(tmp_path):
    path = exchange(tmp_path / "a.h5", data=None)
    with h5py.File(path, "a") as file:
        data = file.create_dataset(
            "exchange/data", data=frames(COUNT, 700), chunks=(1, ROWS, COLUMNS), compression="gzip"
        )
        place = data.id.get_chunk_info(10)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert "is torn" in refused(path)


def test_filter_that_is_not_installed(tmp_path):
    """A chunk written raw under the number of a filter that nobody has."""
    path = exchange(tmp_path / "a.h5", data=None)
    with h5py.File(path, "a") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((1, ROWS, COLUMNS))
        made.set_filter(32767, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        space = h5py.h5s.create_simple((COUNT, ROWS, COLUMNS))
        h5py.h5d.create(file["exchange"].id, b"data", h5py.h5t.NATIVE_UINT16, space, made)
    said = refused(path)
    assert "filter 32767" in said and "not installed" in said


def test_data_in_another_file_that_is_gone(tmp_path):
    path = exchange(tmp_path / "a.h5", data=None)
    with h5py.File(path, "a") as file:
        file["exchange/data"] = h5py.ExternalLink("gone.h5", "/data")
    with pytest.raises(TesseraError):
        open_scan(path)


def test_other_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = np.zeros((3, 4, 5))
    assert "neither Data Exchange" in refused(path)


def test_no_such_scan(tmp_path):
    assert "no such scan" in refused(tmp_path / "none.h5")


@pytest.mark.parametrize("missing", ["projections", "flats", "darks"])
def test_tiff_folder_without(missing, tmp_path):
    for kind in {"projections", "flats", "darks"} - {missing}:
        tiffs(tmp_path / kind, frames(2, 700))
    assert f"holds no {missing}" in refused(tmp_path)


def test_tiff_of_another_size(tmp_path):
    for kind, level in (("projections", 700), ("flats", 1000), ("darks", 100)):
        tiffs(tmp_path / kind, frames(3, level))
    tiffs(tmp_path / "more", np.ones((1, ROWS, 5), np.uint16))
    (tmp_path / "more/frame_0.tif").rename(tmp_path / "projections/frame_1.tif")
    np.savetxt(tmp_path / "theta.txt", [0.0, 60.0, 120.0])
    with pytest.raises(TesseraError, match="frames of one size"), open_scan(tmp_path) as scan:
        scan.projections(slice(0, 2))


def test_check_projections_names_the_frame():
    data = np.ones((5, 2, 3), np.uint16)
    data[3] = 0
    with pytest.raises(TesseraError, match="projection 13 is all zero"):
        check_projections(data, "a.h5", 10)


def test_angles_may_go_down():
    down = -np.arange(100) * 1.8
    assert check_angles(down, 100, "a.h5") is not None


# --- several tiles ------------------------------------------------------------------------------


def tile(folder, name, x_mm=0.0, y_mm=0.0, **changes):
    places = {STAGE + "x": x_mm, STAGE + "y": y_mm, STAGE + "z": 0.0}
    return str(exchange(folder / f"{name}.h5", **places, **changes))


def test_frame_is_the_box_of_all_tiles(tmp_path):
    tiles = {"a": tile(tmp_path, "a"), "b": tile(tmp_path, "b", x_mm=0.03, y_mm=0.0045)}
    # 0.03 mm are 20 pixels of 1.5 um across, 0.0045 mm are 3 up.
    assert nominal_frame(tiles).shape == (ROWS + 3, COLUMNS, COLUMNS + 20)
    assert nominal_frame({"a": tiles["a"]}).shape == (ROWS, COLUMNS, COLUMNS)


MOSAICS = {
    "twice": (dict(), "lies where"),
    "apart": (dict(x_mm=0.3), "overlaps no other tile"),
    "other shape": (
        dict(
            x_mm=0.03,
            data=np.ones((COUNT, ROWS, 9)),
            data_white=np.ones((1, ROWS, 9)),
            data_dark=np.ones((1, ROWS, 9)),
        ),
        "tiles of one shape",
    ),
    "other pixel": (dict(x_mm=0.03, **{PIXEL: 3.0}), "one magnification"),
    "stage far away": (dict(x_mm=1e7), "cannot be"),
}


@pytest.mark.parametrize("case", MOSAICS)
def test_bad_mosaic(case, tmp_path):
    changes, sentence = MOSAICS[case]
    tiles = {"a": tile(tmp_path, "a"), "b": tile(tmp_path, "b", **changes)}
    with pytest.raises(TesseraError, match=sentence) as caught:
        nominal_frame(tiles)
    assert "b.h5" in str(caught.value)


def test_two_pairs_far_from_each_other(tmp_path):
    places = {"a": 0.0, "b": 0.03, "c": 1.0, "d": 1.03}
    tiles = {name: tile(tmp_path, name, x_mm=x) for name, x in places.items()}
    with pytest.raises(TesseraError, match="overlaps no other tile"):
        nominal_frame(tiles)


def test_tiles_without_positions(tmp_path):
    tiles = {n: str(exchange(tmp_path / f"{n}.h5", **{STAGE + "x": None})) for n in "ab"}
    with pytest.raises(TesseraError, match="does not say where the stage was"):
        nominal_frame(tiles)

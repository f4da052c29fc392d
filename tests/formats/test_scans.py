"""One scan in three formats reads the same; what is missing is found by the frames' numbers."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile

from tessera.errors import TesseraError
from tessera.formats import open_scan, scan_header
from tessera.formats.sample import check_frames
from tessera.formats.scan import angles_of

from .conftest import COLUMNS, COUNT, ROWS, STAGE, exchange, frames, nxtomo, tiffs

ANGLES = np.arange(COUNT) * 180.0 / COUNT
DATA, WHITE, DARK = frames(COUNT, 700, 1), frames(4, 1000, 2), frames(3, 100, 3)


def in_nxtomo(path: Path) -> Path:
    """Darks, two flats, half of the projections, two flats, a frame to leave out, the rest."""
    half = COUNT // 2
    bad = np.zeros_like(DARK[:1])
    stack = np.concatenate([DARK, WHITE[:2], DATA[:half], WHITE[2:], bad, DATA[half:]])
    keys = np.repeat([2, 1, 0, 1, 3, 0], [3, 2, half, 2, 1, half])
    angles = np.zeros(len(keys))
    angles[keys == 0] = ANGLES
    return nxtomo(path, keys, stack, angles)


def in_tiff(path: Path) -> Path:
    tiffs(path / "projections", DATA)
    tiffs(path / "flats", WHITE)
    tiffs(path / "darks", DARK)
    np.savetxt(path / "theta.txt", ANGLES)
    (path / "scan.json").write_text(
        json.dumps({"pixel_um": 1.5, "position_um": [500.0, 125.0, 250.0]})
    )
    return path


def in_pages(path: Path) -> Path:
    for kind, stack in (("proj", DATA), ("flat", WHITE), ("dark", DARK)):
        (path / kind).mkdir(parents=True)
        tifffile.imwrite(path / kind / "all.tif", stack, photometric="minisblack")
    np.savetxt(path / "theta.txt", ANGLES)
    (path / "scan.json").write_text('{"pixel_um": 1.5, "position_um": [500, 125, 250]}')
    return path


WRITERS = {
    "Data Exchange": lambda folder: exchange(folder / "a.h5"),
    "NXtomo": lambda folder: in_nxtomo(folder / "a.nx"),
    "TIFF": lambda folder: in_tiff(folder / "a"),
    "TIFF pages": lambda folder: in_pages(folder / "a"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_reads_alike(kind, tmp_path):
    path = WRITERS[kind](tmp_path)
    with open_scan(path) as scan:
        header = scan.header
        assert header.kind == kind.removesuffix(" pages") and header.dtype == "uint16"
        assert (header.rows, header.columns, header.angles) == (ROWS, COLUMNS, COUNT)
        assert header.pixel_um == pytest.approx(1.5)
        assert header.position_um == pytest.approx((500.0, 125.0, 250.0))
        np.testing.assert_allclose(angles_of(scan, None), ANGLES)
        for rows in (slice(0, ROWS), slice(2, 4), slice(5, 6)):
            np.testing.assert_array_equal(scan.projections(rows), DATA[:, rows])
            np.testing.assert_array_equal(scan.flats(rows), WHITE[:, rows])
            np.testing.assert_array_equal(scan.darks(rows), DARK[:, rows])
        np.testing.assert_array_equal(scan.projections(slice(1, 3), slice(8, 13)), DATA[8:13, 1:3])
        assert len(scan.flat_times) == len(WHITE)
        check_frames(scan)
    assert scan_header(path) == header


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_types_are_kept(dtype, scan):
    level = 200 if dtype == "uint8" else 700
    path = scan(
        data=frames(COUNT, level * 0.7, dtype=dtype), data_white=frames(4, level, dtype=dtype)
    )
    with open_scan(path) as opened:
        assert opened.projections(slice(0, 2)).dtype == dtype
        check_frames(opened)


def test_nxtomo_flats_know_when_they_were_taken(tmp_path):
    with open_scan(in_nxtomo(tmp_path / "a.nx")) as scan:
        times = scan.flat_times
    assert times[:2] == pytest.approx(0.0)
    assert np.all((times[2:] > 0.4) & (times[2:] < 0.6))


def test_missing_frames_are_matched_by_number(scan):
    kept = np.array([0, 1, 2, 5, 6, 7, 8, 9, 12, 13, 14, 19])
    path = scan(data=DATA[kept], **{"defaults/NDArrayUniqueId": kept + 1000})
    with open_scan(path) as opened:
        np.testing.assert_allclose(angles_of(opened, None), ANGLES[kept])


def test_missing_frames_among_flats_and_darks(scan):
    """The beamline's file: all frames are numbered, and each says where it went."""
    kept = np.array([0, 1, 3, 4, 10, 19])
    stacks = [b"data_dark", b"data_white", b"data", b"data_white"]
    where = np.repeat([b"/exchange/" + s for s in stacks], [3, 2, len(kept), 2])
    numbers = np.concatenate([np.arange(5), 5 + kept, [25, 26]])
    places = {"defaults/NDArrayUniqueId": numbers, "defaults/HDF5FrameLocation": where}
    with open_scan(scan(data=DATA[kept], **places)) as opened:
        np.testing.assert_allclose(angles_of(opened, None), ANGLES[kept])
        assert opened.flat_times == pytest.approx([0, 0, 1, 1])


def test_numbers_that_explain_nothing_are_refused(scan):
    numbers = np.arange(COUNT - 3)
    numbers[5] = numbers[4]
    path = scan(data=DATA[:-3], **{"defaults/NDArrayUniqueId": numbers})
    with pytest.raises(TesseraError, match="do not say which are missing"):
        open_scan(path)


def test_angles_in_radians_by_their_unit(scan):
    path = scan(theta=np.deg2rad(ANGLES), units={"exchange/theta": "radians"})
    with open_scan(path) as opened:
        np.testing.assert_allclose(angles_of(opened, None), ANGLES)


def test_angles_from_the_config_where_the_file_has_none(scan):
    with open_scan(scan(theta=None)) as opened:
        np.testing.assert_allclose(angles_of(opened, 180.0), ANGLES)
        with pytest.raises(TesseraError, match="recon.angles_deg"):
            angles_of(opened, None)


def test_notes_beside_a_scan_overrule_it(scan):
    path = scan()
    path.with_suffix(".json").write_text('{"position_um": [1, 2, 3]}')
    assert scan_header(path).position_um == (1.0, 2.0, 3.0)
    path.with_suffix(".json").write_text('{"position": [1, 2, 3]}')
    with pytest.raises(TesseraError, match="unknown key 'position'"):
        open_scan(path)
    path.with_suffix(".json").write_text('{"position_um": [1, 2]}')
    with pytest.raises(TesseraError, match="needs 3 numbers"):
        open_scan(path)


def test_motors_called_sample_x_and_sample_y(scan):
    names = {STAGE + a: None for a in "xyz"}
    path = scan(**names, **{STAGE + "sample_x": 0.25, STAGE + "sample_y": 0.5})
    assert scan_header(path).position_um == pytest.approx((500.0, 0.0, 250.0))


@pytest.mark.parametrize("unit", ["um", "mm"])
def test_units_of_the_stage(unit, scan):
    path = scan(units={STAGE + a: unit for a in "xyz"})
    scale = 1.0 if unit == "um" else 1000.0
    assert scan_header(path).position_um == pytest.approx(
        (0.5 * scale, 0.125 * scale, 0.25 * scale)
    )


def test_compressed_scans_are_read_along_their_chunks(tmp_path):
    path = exchange(tmp_path / "a.h5", data=None)
    with h5py.File(path, "a") as file:
        file.create_dataset(
            "exchange/data", data=DATA, chunks=(5, 3, COLUMNS), **hdf5plugin.Blosc(cname="zstd")
        )
    with open_scan(path) as scan:
        assert scan.header.rows_together == 3
        np.testing.assert_array_equal(scan.projections(slice(3, 6)), DATA[:, 3:6])


def test_slabs_bound_the_memory(tmp_path):
    """A slab of rows is read without the rest of the file passing through memory."""
    import tracemalloc

    path = exchange(tmp_path / "a.h5", data=None, data_white=None, data_dark=None)
    with h5py.File(path, "a") as file:
        shape = (COUNT, 512, 1024)
        file.create_dataset("exchange/data", shape, "u2", chunks=(4, 16, 1024), fillvalue=700)
        file.create_dataset("exchange/data_white", (4, 512, 1024), "u2", fillvalue=1000)
        file.create_dataset("exchange/data_dark", (4, 512, 1024), "u2", fillvalue=100)
    with open_scan(path) as scan:
        tracemalloc.start()
        made = scan.projections(slice(16, 48))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert made.shape == (COUNT, 32, 1024) and peak < 2.5 * made.nbytes

"""`tessera recon` on whole small scans: what it writes, and one sentence where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tessera.cli import main
from tessera.config import Recon, section_json
from tessera.recon.axis import FoundAxis
from tessera.recon.command import candidates
from tessera.recon.strip import candidates_of
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tests.recon.phantom import disc, discs, radii

ANGLES, ROWS, COLUMNS = 181, 9, 96


def write(path: Path, integrals: np.ndarray, **changes: Any) -> Path:
    """A Data Exchange scan of line integrals (angles, rows, columns)."""
    counts = 100 + 40_000 * np.exp(-integrals)
    size = integrals.shape[1:]
    content = {
        "exchange/data": np.rint(counts).astype(np.uint16),
        "exchange/data_white": np.full((4, *size), 40_100, np.uint16),
        "exchange/data_dark": np.full((3, *size), 100, np.uint16),
        "exchange/theta": np.arange(len(integrals)) * 180 / len(integrals),
    } | {f"exchange/{name}": value for name, value in changes.items()}
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
    return path


def one_disc(axes: np.ndarray, turn: float = 180.0, columns: int = COLUMNS) -> np.ndarray:
    """Line integrals of 0.01 a pixel of one disc, each row about its own axis."""
    rows = [disc(ANGLES, columns, axis, 28.0, 5.0, -7.0, turn)[1] for axis in axes]
    return 0.01 * np.stack(rows, axis=1)


def run(scan: Path, out: Path, *words: str, **settings: object) -> int:
    given = Recon.model_validate({"pixel_um": 2.0, "rings": {"method": "none"}} | settings)
    return main(["recon", "--settings", section_json(given), *words, str(scan), str(out)])


def tile(out: Path) -> np.ndarray:
    volume = open_volume(out / "tile.zarr")
    return volume.read(Box.whole(volume.shape))


def test_each_row_about_its_own_axis(tmp_path: Path) -> None:
    """A tilt of 0.3 columns a row: with one axis for all, the outer rows would be 1.2 off."""
    slope, middle = 0.3, 46.2
    axes = middle + slope * (np.arange(ROWS) - (ROWS - 1) / 2)
    integrals = one_disc(axes) + 0.01 * texture(axes)
    out = tmp_path / "tile"
    assert run(write(tmp_path / "scan.h5", integrals), out, axis={"tilt": True}) == 0
    said = json.loads((out / "axis.json").read_text())
    assert np.tan(np.deg2rad(said["tilt_deg"])) == pytest.approx(slope, abs=0.03)
    assert said["column"] == pytest.approx(middle, abs=0.1)


def texture(axes: np.ndarray) -> np.ndarray:
    theta = np.arange(ANGLES) * 180 / ANGLES
    rows = [discs(theta, COLUMNS, a, np.random.default_rng(n), 30, 40) for n, a in enumerate(axes)]
    return np.stack(rows, axis=1)


@pytest.mark.parametrize("phase", [None, {"energy_kev": 30, "distance_mm": 2, "delta_beta": 100}])
def test_attenuation_in_one_over_cm(tmp_path: Path, phase: dict[str, float] | None) -> None:
    """0.01 a pixel of 2 um is 50 / cm; phase retrieval leaves the middle of a disc as it is."""
    scan = write(tmp_path / "scan.h5", one_disc(np.full(ROWS, 46.2)))
    out = tmp_path / "tile"
    assert run(scan, out, axis={"column": 46.2}, phase=phase, rows=4) == 0
    inside = radii(COLUMNS, 5.0, -7.0) < 20
    assert tile(out)[:, inside].mean(axis=1) == pytest.approx(np.full(ROWS, 50.0), rel=0.01)


def test_half_acquisition_from_file_to_tile(tmp_path: Path) -> None:
    columns, axis = 48, 40.3
    theta = np.arange(ANGLES) * 360 / ANGLES
    scan = write(tmp_path / "scan.h5", one_disc(np.full(3, axis), 360.0, columns), theta=theta)
    given = {"column": axis, "half_acquisition": True}
    out = tmp_path / "tile"
    assert run(scan, out, axis=given) == 0
    slices = tile(out)
    assert slices.shape == (3, 2 * columns, 2 * columns)
    assert slices[1][radii(2 * columns, 5.0, -7.0) < 24].mean() == pytest.approx(50.0, rel=0.01)
    volume = open_volume(out / "tile.zarr")
    assert volume.provenance["valid_radius_vox"] == pytest.approx(axis)


def test_an_axis_that_cannot_be_found_leaves_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.05, (60, 6, 64))
    out = tmp_path / "tile"
    assert run(write(tmp_path / "scan.h5", noise), out) == 2
    assert str(out / "axis.png") in said_once(capsys)
    assert min(Image.open(out / "axis.png").size) > 64
    assert not (out / "tile.zarr").exists()


def test_the_report_can_show_the_candidates(tmp_path: Path) -> None:
    """About the true axis the disc's edge is the sharpest, whatever is beside it."""
    axes = np.full(3, 46.2)
    scan = write(tmp_path / "scan.h5", one_disc(axes) + 0.01 * texture(axes))
    assert run(scan, tmp_path / "tile") == 0
    with np.load(tmp_path / "tile/qc.npz") as quality:
        sheet = quality["axis_candidates"].astype(float)
    found = json.loads((tmp_path / "tile/axis.json").read_text())
    shown = candidates_of(FoundAxis(**found), COLUMNS)
    sharp = []
    for n in range(len(shown)):
        y, x = n // 4 * (COLUMNS + 18) + 16, n % 4 * (COLUMNS + 2)
        part = sheet[y : y + COLUMNS, x : x + COLUMNS]
        sharp.append(np.sum(np.diff(part, axis=0)[radii(COLUMNS, 0, 0)[1:] < 40] ** 2))
    assert len(shown) >= 3
    assert shown[int(np.argmax(sharp))] == pytest.approx(46.2, abs=0.2)


def test_candidates_side_by_side(tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.h5", one_disc(np.full(3, 46.2)))
    out = tmp_path / "try"
    assert run(scan, out, "--try", "44:48:0.5") == 0
    picture = Image.open(out / "axis.png")
    assert picture.size == (4 * (COLUMNS + 2), 3 * (COLUMNS + 16 + 2))  # nine, four a row
    assert not (out / "tile.zarr").exists()


def test_both_ends_are_tried() -> None:
    assert candidates("10:11:0.25") == [10.0, 10.25, 10.5, 10.75, 11.0]
    assert candidates("1:2:0.1")[-1] == pytest.approx(2.0)


def said_once(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr, without a traceback."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.strip()]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    return lines[0]


STEPS = np.arange(ANGLES) * 180 / ANGLES
FLATS = np.full((4, 3, COLUMNS), 40_100, np.uint16)
BAD: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], str]] = {
    "radians": ({"theta": np.deg2rad(STEPS)}, {}, [], "radians"),
    "60 degrees": ({"theta": STEPS / 3}, {}, [], "needs 90"),
    "angle twice": ({"theta": np.r_[0:90:91j, 90:180:90j]}, {}, [], "occurs twice"),
    "unsorted": ({"theta": np.r_[STEPS[:90], 3.5, STEPS[91:]]}, {}, [], "not sorted"),
    "dropped frame": ({"theta": STEPS[:-1]}, {}, [], "180 angles but 181 projections"),
    "saturated flats": ({"data_white": FLATS * 0 + 65535}, {}, [], "saturated"),
    "dark flats": ({"data_white": FLATS * 0 + 100}, {}, [], "no brighter than the darks"),
    "dead row": ({"data_white": FLATS * np.array([[1], [0], [1]], "u2")}, {}, [], "row 1 is dead"),
    "axis outside": ({}, {"axis": {"column": 200.0}}, [], "outside the picture"),
    "half of half a turn": ({}, {"axis": {"half_acquisition": True}}, [], "needs 360 degrees"),
    "candidate outside": ({}, {}, ["--try", "90:99:1"], "outside the picture"),
    "no candidates": ({}, {}, ["--try", "5"], "FIRST:LAST:STEP"),
    "row outside": ({}, {}, ["--try", "44:46:1", "--row", "99"], "row 99 lies outside"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, settings, words, sentence = BAD[case]
    scan = write(tmp_path / "scan.h5", one_disc(np.full(3, 46.2)), **changes)
    given = {"axis": {"column": 46.2}} | settings
    assert run(scan, tmp_path / "tile", *words, **given) == 2
    assert sentence in said_once(capsys)


def test_a_bad_frame_far_into_the_scan_has_its_own_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The axis is looked for in runs of frames from both ends: the second does not begin at 0."""
    scan = write(tmp_path / "scan.h5", one_disc(np.full(3, 46.2)))
    with h5py.File(scan, "a") as file:
        file["exchange/data"][ANGLES - 2] = 0
    assert run(scan, tmp_path / "tile") == 2
    assert f"projection {ANGLES - 2} is all zero" in said_once(capsys)


@pytest.mark.parametrize("pixel", [0.0, -1.0])
def test_a_pixel_of_nothing(pixel: float, capsys: pytest.CaptureFixture[str]) -> None:
    given = json.dumps({"pixel_um": pixel})
    assert main(["recon", "--settings", given, "scan.h5", "tile"]) == 2
    assert "pixel_um" in said_once(capsys)

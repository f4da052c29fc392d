"""Scans of one rotation axis, stitched: the wide scan comes back from its overlapping parts."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tessera.cli import main
from tessera.config import Mosaic
from tessera.mosaic import project
from tessera.mosaic.project import stitch
from tests.mosaic.exchange import write_scan
from tests.mosaic.phantom import Blobs

ANGLES = 40
PLACES = {"a": (0.0, 0.0), "b": (0.6, 61.3), "c": (30.4, -1.2), "d": (31.7, 60.5)}  # row, column


def integrals(place: tuple[float, float], shape: tuple[int, int] = (44, 90)) -> np.ndarray:
    """Smooth in the angle as projections are, exact at any sub-pixel place."""
    blobs = Blobs.random((ANGLES, 90, 170), density=1 / 400, seed=5)
    return 1.5 + 0.3 * blobs.at((0, *place), (ANGLES, *shape))


def write(path: Path, place: tuple[float, float], angles: np.ndarray | None = None) -> Path:
    rng = np.random.default_rng(0)
    truth = integrals(place)
    beam = 30000 * rng.uniform(0.8, 1.2, truth.shape[1:])
    row, column = np.round(np.array(place) / 30) * 30  # off by up to two pixels
    flats = np.stack([beam] * 4)
    return write_scan(path, beam * np.exp(-truth), flats, (row, column), angles)


def test_four_scans_become_one(tmp_path: Path) -> None:
    scans = [str(write(tmp_path / f"{name}.h5", place)) for name, place in PLACES.items()]
    out = tmp_path / "wide.h5"
    assert main(["mosaic", "project", "--out", str(out), *scans]) == 0
    found = json.loads((tmp_path / "wide.positions.json").read_text())
    for tile in found["tiles"]:
        row, column = PLACES[tile["name"]]
        assert tile["offset_vox"][1:] == pytest.approx([row, column], abs=0.1)
        assert tile["correction_vox"][0] == pytest.approx(0, abs=1e-6)
    with h5py.File(out) as file:
        wide = -np.log(file["exchange/data"][:])
        assert file["exchange/theta"].shape == (ANGLES,)
    truth = integrals((0, 0), wide.shape[1:])
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert np.corrcoef(wide[inner].ravel(), truth[inner].ravel())[0, 1] >= 0.99
    assert np.abs(wide - truth)[inner].mean() < 0.01


def test_a_slope_across_a_thin_overlap_is_no_gain(tmp_path: Path) -> None:
    """A specimen that thins out downwards: what a tile differs by is found, and nothing else."""
    scans = []
    for name, (row, column) in PLACES.items():
        slope = 1.2 - (row + np.arange(44)) / 80
        truth = integrals((row, column)) + slope[:, None]
        truth *= 0.96 if name == "c" else 1.0
        start = (np.round(row / 30) * 30, np.round(column / 30) * 30)
        flats = np.full((4, *truth.shape[1:]), 50000.0)
        scans.append(write_scan(tmp_path / f"{name}.h5", 50000 * np.exp(-truth), flats, start))
    found = {
        t["name"]: t for t in stitch(scans, tmp_path / "o.h5", Mosaic(kind="projections"))["tiles"]
    }
    for name, place in PLACES.items():
        gain = found[name]["gain"] / found["a"]["gain"]
        assert gain == pytest.approx(1 / 0.96 if name == "c" else 1.0, abs=3e-3)
        assert found[name]["offset_vox"][1:] == pytest.approx(place, abs=0.01)


def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs that are done are not made again, and the file is the same byte for byte."""
    scans = [write(tmp_path / f"{name}.h5", PLACES[name]) for name in "ab"]
    whole, again = tmp_path / "whole.h5", tmp_path / "again.h5"
    stitch(scans, whole, Mosaic(kind="projections"))
    made: list[str] = []
    real = project.blend_parts

    def counting(parts, box):  # type: ignore[no-untyped-def]
        made.append(str(box))
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(parts, box)

    monkeypatch.setattr(project, "blend_parts", counting)
    with pytest.raises(KeyboardInterrupt):
        stitch(scans, again, Mosaic(kind="projections"))
    assert not again.exists()
    first = made[0]
    made.clear()
    made.append("not the second")
    monkeypatch.setattr(project, "blend_parts", lambda p, b: (made.append(str(b)), real(p, b))[1])
    stitch(scans, again, Mosaic(kind="projections"))
    assert len(made) > 1 and first not in made
    with h5py.File(whole) as one, h5py.File(again) as two:
        assert np.array_equal(one["exchange/data"][:], two["exchange/data"][:])


def test_scans_at_other_angles_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.h5", PLACES["a"])
    b = write(tmp_path / "b.h5", PLACES["b"], np.arange(ANGLES) * 181 / ANGLES)
    out = tmp_path / "wide.h5"
    assert main(["mosaic", "project", "--out", str(out), str(a), str(b)]) == 2
    assert "other angles" in capsys.readouterr().err and not out.exists()


def test_volumes_are_not_registered_where_projections_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "positions.json")
    command = ["mosaic", "register", "--settings", '{"kind": "projections"}', "--out", out]
    assert main([*command, str(tmp_path)]) == 2
    assert "mosaic project" in capsys.readouterr().err

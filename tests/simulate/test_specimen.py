"""Tiles cover the field, truth can be told apart, scans are what a detector gives."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tessera.cli import main
from tessera.config import Simulate, section_json
from tessera.formats import nominal_frame, open_scan
from tessera.formats.sample import check_frames
from tessera.formats.scan import angles_of
from tessera.simulate.scan import DARK_COUNTS, FADING, FLATS, detect
from tessera.simulate.specimen import make_specimen
from tessera.simulate.tiles import field, frame, tile_grid
from tessera.volume.box import Box
from tessera.volume.store import open_volume


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(8, 60), st.integers(40, 200), st.integers(40, 200)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 16),
    st.integers(0, 10**6),
)
def test_tiles_see_all_of_the_field(shape, tiles, overlap, seed):
    config = Simulate(shape=shape, tiles=tiles, overlap_vox=min(overlap, shape[0] // 2), seed=seed)
    plans = tile_grid(config)
    assert len(plans) == np.prod(tiles) and list(plans) == sorted(plans)
    pixel = config.voxel_um
    corners = np.array([(y, x) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)])
    seen = np.zeros(4, bool)
    covered = np.zeros(shape[0], bool)
    for plan in plans.values():
        z, y, x = np.array(plan.true_um) / pixel
        # All projections see this circle about the axis.
        radius = min(plan.axis, plan.columns - 1 - plan.axis)
        seen |= np.linalg.norm(corners - (y, x), axis=1) <= radius
        rows = np.arange(shape[0])
        covered |= np.abs(rows - z) <= (plan.rows - 1) / 2 + 1e-6
        error = (np.array(plan.nominal_um) - plan.true_um) / pixel
        assert np.abs(error).max() <= config.stage_error_vox + 1e-9
    first = next(iter(plans.values()))
    assert first.nominal_um == pytest.approx(first.true_um)
    assert seen.all() and covered.all()
    fused, origin = frame(config)
    low = np.array(origin) / pixel
    assert np.all(low <= 0.5)
    short = np.array(shape) - (low + fused)  # the nominal frame may lack the stage's error in z
    assert short[0] <= config.stage_error_vox + 0.5 and np.all(short[1:] <= 0.5)
    start, stop = field(config)
    assert np.abs(low + start).max() < 1.0
    np.testing.assert_array_equal(stop, np.minimum(np.add(start, shape), fused))


def test_truth_is_written_and_somas_stand_apart(small, tmp_path):
    assert main(["simulate", "truth", "--settings", section_json(small), str(tmp_path)]) == 0
    shape, origin = frame(small)
    stores = {n: open_volume(tmp_path / f"{n}.zarr") for n in ("truth", "soma_ids", "density")}
    for store in stores.values():
        assert tuple(store.shape) == shape and store.origin_um == pytest.approx(origin)
    classes, ids, density = (s.read(Box.whole(shape)) for s in stores.values())
    assert set(np.unique(classes)) == {0, 1, 2}
    np.testing.assert_array_equal(classes == 1, ids > 0)
    components, count = ndimage.label(ids > 0, np.ones((3, 3, 3)))
    pairs = np.unique(np.stack([components[ids > 0], ids[ids > 0]]), axis=1)
    assert len(np.unique(pairs[1])) == pairs.shape[1] == count  # no two somas touch
    assert density[classes == 2].mean() > density[classes == 1].mean() > density.mean() > 0

    facts = json.loads((tmp_path / "truth.json").read_text())
    inner = 0
    for soma in facts["somas"]:
        mine = np.argwhere(ids == soma["id"])
        radius = 9.0 * small.voxel_um
        place = np.array(soma["centroid_um"])
        far = np.array(origin) + (np.array(shape) - 1) * small.voxel_um
        if np.all(place - radius > origin) and np.all(place + radius < far):
            inner += 1
            assert len(mine) * small.voxel_um**3 == pytest.approx(soma["volume_um3"], rel=0.05)
            centroid = np.array(origin) + mine.mean(axis=0) * small.voxel_um
            assert np.abs(centroid - place).max() < 0.2 * small.voxel_um
    assert inner


def test_scan_is_data_exchange_that_reads_back(small, tmp_path):
    paths = {}
    for name in tile_grid(small):
        path = tmp_path / f"{name}.h5"
        command = ["simulate", "scan", "--settings", section_json(small), "--tile", name, str(path)]
        assert main(command) == 0
        paths[name] = str(path)
        first = path.read_bytes()
        assert main(command) == 0
        assert path.read_bytes() == first
    assert nominal_frame(paths).shape == frame(small)[0]
    name, plan = list(tile_grid(small).items())[1]
    with open_scan(paths[name]) as scan:
        assert scan.header.pixel_um == pytest.approx(small.voxel_um)
        assert scan.header.position_um == pytest.approx(plan.nominal_um)
        assert (scan.header.rows, scan.header.columns) == (plan.rows, plan.columns)
        np.testing.assert_allclose(angles_of(scan, None), np.arange(31) * 180 / 31)
        np.testing.assert_array_equal(scan.flat_times, np.repeat([0.0, 1.0], FLATS))
        check_frames(scan)
    with h5py.File(paths[name]) as file:
        assert file["exchange/data"].dtype == np.uint16


def test_transmission_is_what_a_beamline_would_choose(small):
    config = Simulate()
    specimen = make_specimen(config)
    from tessera.simulate.project import line_integrals

    plan = next(iter(tile_grid(config).values()))
    centre = tuple(np.array(plan.true_um) / config.voxel_um)
    angles = np.array([0.0, 60.0, 120.0])
    made = line_integrals(specimen, angles, 5, plan.columns, plan.axis, centre, config.voxel_um)
    assert 0.2 < np.exp(-made).min() and np.exp(-made).max() < 0.9


def test_counts_are_poisson_and_fade():
    config = Simulate(photons=4000, rings=0.0)
    made = detect(np.full((400, 16, 32), 0.7), config, np.random.default_rng(1))
    flats, darks = made["white"].astype(float), made["dark"].astype(float)
    assert darks.mean() == pytest.approx(DARK_COUNTS, abs=0.3)
    # Variance is the mean, but for the readout and the last bit.
    light = flats[:FLATS] - DARK_COUNTS
    ratio = (light.var(axis=0, ddof=1) - 4.1).sum() / light.mean(axis=0).sum()
    assert ratio == pytest.approx(1.0, abs=0.06)
    after = flats[FLATS:].mean() - DARK_COUNTS
    assert after / light.mean() == pytest.approx(1 - FADING, abs=0.002)
    data = np.median(made["data"].astype(float), axis=(1, 2)) - DARK_COUNTS
    share = data / (light.mean() * (1 - FADING * np.linspace(0, 1, 400)))
    assert np.median(share) == pytest.approx(np.exp(-0.7), rel=0.03)


def test_one_seed_one_specimen(small):
    same, other = make_specimen(small), make_specimen(small.model_copy(update={"seed": 6}))
    for name, value in make_specimen(small).__dict__.items():
        np.testing.assert_array_equal(value, getattr(same, name))
    assert not np.array_equal(same.somas[:3], other.somas[:3])


def test_unknown_tile_is_one_sentence(small, tmp_path, capsys):
    line = ["simulate", "scan", "--settings", section_json(small), "--tile", "tile_9"]
    assert main([*line, str(tmp_path / "a.h5")]) == 2
    said = capsys.readouterr().err
    assert "tile_9" in said and "tile_z0_y0_x1" in said and said.count("\n") == 1

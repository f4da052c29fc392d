"""Reconstruction against closed forms: scale, place, axis, regions of interest, corrections."""

from __future__ import annotations

import numpy as np
import pytest
from algotom.prep import removal
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.config import Axis, Recon, Rings
from tessera.errors import TesseraError
from tessera.recon.axis import FoundAxis, find_axis
from tessera.recon.correct import to_integrals, transmission
from tessera.recon.extend import Extension
from tessera.recon.filters import response
from tessera.recon.prepare import bands_of
from tessera.recon.seam import frames_of, seams
from tessera.recon.sorting import smooth_sorted
from tessera.recon.stripes import remove_stripes, ring_score
from tests.recon.phantom import disc


def test_what_lies_beyond_a_disc_is_the_disc() -> None:
    _, sinogram = disc(90, 100, 49.5, 80, 0, 0)
    s = np.arange(300) - 100 - 49.5
    true = 2 * np.sqrt(np.maximum(80**2 - s**2, 0))
    extension = Extension(sinogram[:, None], 300, True, np.array([49.5]))
    assert extension.before == 100
    assert np.abs(extension.padded()[:, 0] - true).max() < 0.06 * true.max()


@pytest.mark.parametrize("name", ["ramp", "shepp", "cosine", "hann", "hamming", "parzen"])
def test_filters_fall_as_the_field_knows_them(name: str) -> None:
    ramp, other = response("ramp", 256), response(name, 256)
    assert np.all(other <= ramp + 1e-12)
    assert other[3] == pytest.approx(ramp[3], rel=0.02)
    assert ramp[64] == pytest.approx(0.25, rel=0.01)


def rough(angles: int, axis: float, columns: int = 160, rows: int = 12, seed: int = 0):  # type: ignore[no-untyped-def]
    """Sinograms (angles, rows, columns) of many discs, more than the detector sees."""
    rng = np.random.default_rng(seed)
    theta = np.arange(angles) * 180 / angles
    out = np.zeros((angles, rows, columns), np.float32)
    for row in range(rows):
        for _ in range(60):
            y, x = rng.uniform(-110, 110, 2)
            radius, value = rng.uniform(3, 12), rng.uniform(0.5, 1.5)
            out[:, row] += value * disc(angles, columns, axis, radius, y, x)[1]
    return theta, out


def search(sinograms: np.ndarray, theta: np.ndarray, **given_axis: object) -> FoundAxis:
    """The axis from the frames and rows that the finder asks for."""
    found, rows = seams(theta), bands_of(sinograms.shape[1])
    used = frames_of(found)
    part = sinograms[used][:, rows.ravel()]
    return find_axis(part, [s.within(used) for s in found], Axis(**given_axis), rows)


def test_a_tilted_axis_is_found() -> None:
    slope = 0.05
    theta, sinograms = rough(361, 80.0, rows=1)
    rows = [rough(361, 80.0 + slope * (r - 9.5), rows=1, seed=r)[1] for r in range(20)]
    found = search(np.concatenate(rows, axis=1), theta, tilt=True)
    assert np.tan(np.deg2rad(found.tilt_deg)) == pytest.approx(slope, abs=0.02)
    assert found.column == pytest.approx(80.0, abs=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_axis(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(180, 9, 120))
    assert search(noise.astype(np.float32), np.arange(180.0)).confidence < 0.1
    stripes = rng.normal(size=(1, 9, 120))
    assert search((noise + stripes).astype(np.float32), np.arange(180.0)).confidence < 0.1


def test_less_than_half_a_turn_has_no_axis() -> None:
    theta, sinograms = rough(361, 80.0, rows=3)
    part = theta < 150
    assert search(sinograms[part], theta[part]).confidence == 0.0


def frames(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts, flats, darks and the true integrals."""
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0.1, 1.0, (2, 4, 48)).astype(np.float32)
    part = np.linspace(0, 1, 40, dtype=np.float32)[:, None, None]
    true = (1 - part) * ends[0] + part * ends[1]  # absorption changes slowly with the angle
    beam = rng.uniform(20_000, 40_000, (4, 48))
    counts = np.rint(100 + beam * np.exp(-true)).astype(np.uint16)
    flats = np.repeat(np.rint(100 + beam)[None], 5, axis=0).astype(np.uint16)
    return counts, flats, np.full((3, 4, 48), 100, np.uint16), true


OFF = Recon(rings=Rings(method="none"))


def test_counts_become_integrals() -> None:
    counts, flats, darks, true = frames()
    counts[7, 2, 5] = 65535  # a zinger
    counts[:, 1, 9] = flats[:, 1, 9] = 100  # a dead pixel
    raw = to_integrals(transmission(counts, flats, darks, np.zeros(5), OFF, "scan.h5"))
    good = np.ones(true.shape, bool)
    good[7, 2, 5] = good[:, 1, 9] = False
    assert np.abs(raw - true)[good].max() < 2e-3
    assert abs(raw[7, 2, 5] - true[7, 2, 5]) < 0.1
    assert np.isfinite(raw).all()


def test_flats_follow_the_beam_in_time() -> None:
    counts, flats, darks, true = frames()
    fading = np.linspace(1, 0.8, len(counts))[:, None, None]
    counts = np.rint(100 + (counts - 100.0) * fading).astype(np.uint16)
    late = np.rint(100 + (flats - 100.0) * 0.8).astype(np.uint16)
    times = np.repeat([0.0, 1.0], 5)
    seen = transmission(counts, np.concatenate([flats, late]), darks, times, OFF, "scan.h5")
    raw = to_integrals(seen)
    assert np.abs(raw - true).max() < 3e-3


@pytest.mark.parametrize("method", ["sorting", "wavelet-fourier", "titarenko", "all"])
def test_stripes_are_removed(method: str) -> None:
    theta, sinograms = rough(180, 79.5, rows=3)
    sinograms /= sinograms.max()
    rng = np.random.default_rng(1)
    stripes = (rng.random((3, 160)) < 0.05) * rng.normal(0, 0.05, (3, 160))
    dirty = (sinograms + stripes + rng.normal(0, 0.005, sinograms.shape)).astype(np.float32)
    clean = remove_stripes(dirty, Rings(method=method))
    where = stripes != 0
    before, after = ((x - sinograms).mean(axis=0)[where] for x in (dirty, clean))
    least = 0.6 if method in ("sorting", "all") else 0.95
    assert np.sqrt(np.mean(after**2)) < least * np.sqrt(np.mean(before**2))
    assert ring_score(clean) < ring_score(dirty)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.integers(2, 40),
    columns=st.integers(4, 40),
    size=st.sampled_from([3, 7, 20, 31]),
    seed=st.integers(0, 99),
    coarse=st.booleans(),
)
def test_sorting_is_what_algotom_does(
    angles: int, columns: int, size: int, seed: int, coarse: bool
) -> None:
    """Bit for bit; of equal values, of which counts have many, the earlier angle is the lesser."""
    values = np.linspace(-1.5, 1.5, angles * columns, dtype=np.float32)
    sinogram = np.random.default_rng(seed).permutation(values).reshape(angles, columns)
    if coarse:
        sinogram = np.round(sinogram, 1) + 0  # no -0
    mine = np.empty_like(sinogram)
    smooth_sorted(sinogram, size, mine)
    theirs = removal.remove_stripe_based_sorting(sinogram, size=size)
    if coarse:
        assert np.array_equal(np.sort(mine, axis=0), np.sort(theirs, axis=0))
        order = np.argsort(sinogram, axis=0, kind="stable")
        assert np.all(np.diff(np.take_along_axis(mine, order, axis=0), axis=0) >= 0)
    else:
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("nan", "projection 3 holds values that are not numbers"),
        ("zero", "projection 3 is all zero"),
        ("exchanged", "no brighter than the darks"),
        ("saturated", "saturated"),
        ("row", "row 2 is dead throughout"),
    ],
)
def test_bad_frames_are_named(spoil: str, said: str) -> None:
    counts, flats, darks, _ = frames()
    if spoil == "nan":
        counts = counts.astype(np.float32)
        counts[3, 0, 0] = np.nan
    elif spoil == "zero":
        counts[3] = 0
    elif spoil == "exchanged":
        flats, darks = darks, flats
    elif spoil == "saturated":
        flats = np.full_like(flats, 65535)
    else:
        flats[:, 2] = 100
    with pytest.raises(TesseraError, match=said):
        transmission(counts, flats, darks, np.zeros(len(flats)), OFF, "scan.h5")

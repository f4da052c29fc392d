"""Sub-pixel shifts against analytic functions, polynomials and scipy's own spline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tessera.mosaic.resample import TAPS, kernel, shift_valid

fractions = st.floats(0, 1, exclude_max=True, allow_nan=False)


@given(fractions)
def test_weights_sum_to_one(f: float) -> None:
    assert kernel(f).sum() == pytest.approx(1, abs=1e-12)
    assert len(kernel(f)) == 2 * TAPS


def test_no_shift_copies() -> None:
    data = np.random.default_rng(0).normal(size=(20, 22, 24)).astype(np.float32)
    inner = tuple(slice(TAPS - 1, n - TAPS) for n in data.shape)
    np.testing.assert_array_equal(shift_valid(data, (0.0, 0.0, 0.0)), data[inner])


@given(fractions, st.integers(0, 3))
def test_polynomials_up_to_cubic_are_exact(f: float, degree: int) -> None:
    x = np.arange(-TAPS + 1.0, TAPS + 1)
    scale = max(1.0, float(TAPS**degree))
    assert float(kernel(f) @ x**degree) == pytest.approx(f**degree, abs=2e-4 * scale)


@settings(deadline=None, max_examples=25)
@given(st.tuples(fractions, fractions, fractions), st.integers(0, 2**31))
def test_agrees_with_scipys_spline(f: tuple[float, float, float], seed: int) -> None:
    data = np.random.default_rng(seed).normal(size=(40, 40, 40))
    ours = shift_valid(data, f)
    theirs = ndimage.shift(data, [-v for v in f], order=3, mode="mirror")
    inner = tuple(slice(TAPS - 1, n - TAPS) for n in data.shape)
    far = slice(4, -4)  # scipy's own edges are not ours
    np.testing.assert_allclose(ours[far, far, far], theirs[inner][far, far, far], atol=3e-3, rtol=0)


@pytest.mark.parametrize("f", [0.1, 0.5, 0.9])
def test_a_sine_of_six_voxels_keeps_its_height(f: float) -> None:
    x = np.arange(60.0)
    data = np.broadcast_to(np.sin(2 * np.pi * x / 6), (2 * TAPS, 2 * TAPS, 60)).copy()
    shown = shift_valid(data, (0.0, 0.0, f))[0, 0]
    truth = np.sin(2 * np.pi * (x[TAPS - 1 : TAPS - 1 + len(shown)] + f) / 6)
    assert np.abs(shown - truth).max() < 0.01  # trilinear: 0.13 at half a voxel


@settings(deadline=None, max_examples=25)
@given(st.tuples(fractions, fractions, fractions), st.integers(1, 12), st.integers(0, 2**31))
def test_a_part_gives_the_bytes_of_the_whole(
    f: tuple[float, float, float], cut: int, seed: int
) -> None:
    data = np.random.default_rng(seed).normal(size=(30, 31, 32)).astype(np.float32)
    whole = shift_valid(data, f)
    part = shift_valid(data[cut:, : 31 - cut // 2, cut // 2 :], f)
    z, y, x = part.shape
    assert part.tobytes() == whole[cut:, :y, cut // 2 :].tobytes()


def test_a_fraction_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        kernel(1.0)

"""The shift between two pictures of blobs whose places are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.mosaic.shift import BAND_MARGIN, FINE_MARGIN, Correlation, band_pass, fine_shift
from tests.mosaic.phantom import Blobs

REGION = (24, 32, 16)
BLOBS = Blobs.random((60, 70, 54), density=1 / 150, seed=4)


def pictures(
    d: np.ndarray, noise: float = 0.0, gain: float = 1.0, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[slice, ...]]:
    """a, b with b(x - d) = a(x), the mask and the region, as ``fine_shift`` takes them."""
    rng = np.random.default_rng(0)
    wide = tuple(n + 2 * BAND_MARGIN for n in REGION)
    wider = tuple(n + 2 * FINE_MARGIN for n in wide)
    a = BLOBS.at((FINE_MARGIN,) * 3, wide)
    b = gain * BLOBS.at(tuple(d), wider) + offset  # b(x) = a(x + d)
    a, b = a + rng.normal(0, noise, wide), b + rng.normal(0, noise, wider)
    inner = tuple(slice(BAND_MARGIN, BAND_MARGIN + n) for n in REGION)
    return a.astype(np.float32), b.astype(np.float32), np.ones(wide, bool), inner


@settings(deadline=None, max_examples=15)
@given(st.tuples(*[st.floats(-0.8, 0.8)] * 3))
def test_fractions_are_found(d: tuple[float, float, float]) -> None:
    found = fine_shift(*pictures(np.array(d)))
    assert found.converged and found.quality > 0.99
    np.testing.assert_allclose(found.shift, d, atol=0.02)


def test_brightness_does_not_move_it() -> None:
    d = np.array([0.3, -0.4, 0.25])
    found = fine_shift(*pictures(d, gain=1.7, offset=12.0))
    np.testing.assert_allclose(found.shift, d, atol=0.02)


def test_noise_stays_within_the_said_error() -> None:
    d = np.array([0.3, -0.4, 0.25])
    found = fine_shift(*pictures(d, noise=0.2))
    error = found.shift - d
    assert error @ found.information @ error < 25  # chi-squared of 3 degrees: beyond 5 sigma
    assert np.linalg.norm(error) < 0.1


def test_a_mask_hides_what_is_not_true() -> None:
    """A third of the picture is rubbish in one tile; it is masked, and does not matter."""
    d = np.array([0.2, 0.1, -0.3])
    a, b, mask, inner = pictures(d)
    cut = a.shape[1] // 3
    a[:, :cut] = np.random.default_rng(1).normal(0, 3, a[:, :cut].shape)
    mask[:, :cut] = False
    np.testing.assert_allclose(fine_shift(a, b, mask, inner).shift, d, atol=0.03)


def test_nothing_in_common_is_no_shift() -> None:
    a, b, mask, inner = pictures(np.zeros(3))
    other = np.random.default_rng(5).normal(size=b.shape).astype(np.float32)
    found = fine_shift(a, other, mask, inner)
    assert not found.converged or found.quality < 0.3
    assert not fine_shift(a, b, np.zeros_like(mask), inner).converged


def correlated(s: tuple[int, int, int], reach: int) -> tuple[tuple[int, int, int], float, bool]:
    shape = (24, 30, 28)
    a, b = BLOBS.at((10, 10, 10), shape), BLOBS.at([10 + v for v in s], shape)
    mask = np.ones(shape, bool)
    found = Correlation((reach,) * 3)
    found.add(band_pass(a, mask), mask, band_pass(b, mask), mask)
    return found.best()


@settings(deadline=None, max_examples=15)
@given(st.tuples(*[st.integers(-4, 4)] * 3))
def test_whole_shifts_are_found(s: tuple[int, int, int]) -> None:
    found, score, inside = correlated(s, 5)
    assert found == s and inside and score > 0.8


def test_a_shift_beyond_reach_is_not_believed() -> None:
    """Its best place lies on the edge of what was looked at, or correlates badly."""
    _, score, inside = correlated((0, 7, 0), 5)
    assert not inside or score < 0.3


def test_correlation_is_the_plain_one_of_common_true_voxels() -> None:
    rng = np.random.default_rng(2)
    shape, reach = (7, 8, 9), (1, 2, 2)
    a, b = rng.normal(size=shape), rng.normal(size=shape)
    mask_a, mask_b = rng.random(shape) < 0.8, rng.random(shape) < 0.8
    found = Correlation(reach)
    found.add(a, mask_a, b, mask_b)
    best = -1.0
    for s in np.ndindex(*(2 * r + 1 for r in reach)):
        move = np.array(s) - reach
        into = tuple(slice(max(0, m), n + min(0, m)) for m, n in zip(move, shape, strict=True))
        from_ = tuple(slice(max(0, -m), n + min(0, -m)) for m, n in zip(move, shape, strict=True))
        both = mask_a[into] & mask_b[from_]
        best = max(best, float(np.corrcoef(a[into][both], b[from_][both])[0, 1]))
    assert found.best()[1] == pytest.approx(best, abs=1e-4)

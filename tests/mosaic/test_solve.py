"""The global solution on shifts written by hand or drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.mosaic.brightness import match_brightness
from tessera.mosaic.overlap import Pair
from tessera.mosaic.pair import Measured, Moments
from tessera.mosaic.solve import gate, solve
from tessera.volume.box import Box

BOX = Box.whole((8, 8, 8))
GRID = [(r * 3 + c, r * 3 + c + 1) for r in range(3) for c in range(2)]
GRID += [(r * 3 + c, r * 3 + c + 3) for r in range(2) for c in range(3)]
NAMES = [f"t{i}" for i in range(9)]


def measured(
    a: int, b: int, shift: np.ndarray, quality: float = 0.9, sigma: float = 0.05
) -> Measured:
    info = np.eye(3) / sigma**2
    z, y, x = map(float, shift)
    moments = Moments()
    return Measured(Pair(a, b, BOX), (z, y, x), quality, info, (1, 1), 0.0, None, moments, True)


def grid_pairs(truth: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[Measured]:
    rng = np.random.default_rng(seed)
    return [
        measured(
            a, b, truth[b] - truth[a] + rng.normal(0, noise, 3) if noise else truth[b] - truth[a]
        )
        for a, b in GRID
    ]


def random_truth(seed: int) -> np.ndarray:
    truth = np.random.default_rng(seed).uniform(-5, 5, (9, 3))
    truth[0] = 0
    return truth


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_exact_shifts_give_exact_places(seed: int) -> None:
    truth = random_truth(seed)
    found = solve(9, grid_pairs(truth), 0.3, 1.0)
    np.testing.assert_allclose(found.corrections, truth, atol=1e-6)
    assert found.used.all() and found.reached.all() and found.rms_vox < 1e-6


def test_a_triangle_by_hand() -> None:
    """1 + 1 and 2.3 round a loop: each side takes a third of the 0.3 that does not close."""
    line = np.array([0, 0, 1.0])
    pairs = [measured(0, 1, line), measured(1, 2, line), measured(0, 2, 2.3 * line)]
    found = solve(3, pairs, 0.3, 1.0)
    np.testing.assert_allclose(found.corrections[:, 2], [0, 1.1, 2.2], atol=1e-6)
    np.testing.assert_allclose(found.residuals[:, 2], [-0.1, -0.1, 0.1], atol=1e-6)
    assert found.rms_vox == pytest.approx(0.1, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.integers(0, len(GRID) - 1))
def test_one_wrong_pair_does_not_pull_its_neighbours(seed: int, which: int) -> None:
    truth = random_truth(seed)
    pairs = grid_pairs(truth, 0.03, seed)
    wrong = np.array(pairs[which].shift) + [0, 25, -11]
    pairs[which] = measured(*GRID[which], wrong)
    found = solve(9, pairs, 0.3, 1.0)
    assert np.abs(found.corrections - truth).max() < 0.25
    assert not found.used[which] and found.used.sum() == len(GRID) - 1
    assert gate(NAMES, pairs, found, 0.3) == ""


def test_poor_pairs_are_left_out_and_lost_tiles_named() -> None:
    truth = random_truth(1)
    pairs = [
        p if 8 not in (p.pair.a, p.pair.b) else measured(p.pair.a, p.pair.b, np.ones(3), 0.1)
        for p in grid_pairs(truth)
    ]
    found = solve(9, pairs, 0.3, 1.0)
    np.testing.assert_allclose(found.corrections[:8], truth[:8], atol=1e-6)
    assert not found.reached[8] and found.reached[:8].all()
    assert "t8" in gate(NAMES, pairs, found, 0.3)


def test_contradicting_pairs_shut_the_gate() -> None:
    """Where four of twelve disagree, none is an outlier: the mosaic is wrong."""
    truth = random_truth(2)
    pairs = grid_pairs(truth)
    for i in (0, 3, 6, 11):
        pairs[i] = measured(*GRID[i], np.array(pairs[i].shift) + [0, 4 + i, -3])
    found = solve(9, pairs, 0.3, 1.0)
    assert "contradict" in gate(NAMES, pairs, found, 0.3)


def test_better_known_pairs_count_more() -> None:
    line = np.array([0, 0, 1.0])
    pairs = [measured(0, 1, line, sigma=0.01), measured(0, 1, 1.2 * line, sigma=0.1)]
    found = solve(2, pairs, 0.3, 1.0)
    assert found.corrections[1, 2] == pytest.approx(1.0, abs=0.01)


def test_one_tile_alone_needs_no_pairs() -> None:
    found = solve(1, [], 0.3, 1.0)
    assert found.corrections.tolist() == [[0, 0, 0]] and gate(["t0"], [], found, 0.3) == ""


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31))
def test_brightness_is_matched_up_to_what_all_share(seed: int) -> None:
    """Each tile shows gain * value + offset of one scene; matched, they differ no more."""
    rng = np.random.default_rng(seed)
    gains, offsets = rng.uniform(0.95, 1.05, 9), rng.uniform(-0.5, 0.5, 9)
    pairs = grid_pairs(np.zeros((9, 3)))
    for p in pairs:
        scene = rng.normal(2.0, 1.0, 20000)
        a, b = p.pair.a, p.pair.b
        p.moments.add(gains[a] * scene + offsets[a], gains[b] * scene + offsets[b])
    gain, offset = match_brightness(9, pairs)
    slope, base = gain * gains, gain * offsets + offset
    assert np.ptp(slope) < 0.02 and np.ptp(slope * 2 + base) < 0.02
    assert np.log(gain).mean() == pytest.approx(0, abs=1e-9)
    assert offset.mean() == pytest.approx(0, abs=1e-9)

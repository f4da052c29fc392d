"""Matching against brute force and hand-worked scenes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.evaluate import scores
from tessera.evaluate.detection import Census, detect, inside, match
from tessera.volume.box import Box

ONE = (1.0, 1.0, 1.0)


def census(*points: tuple[float, float, float], voxels: int = 100) -> Census:
    where = np.array(points, float).reshape(-1, 3)
    return Census(np.arange(1, len(where) + 1), np.full(len(where), voxels), where)


def best_by_brute_force(true: np.ndarray, found: np.ndarray, within: float) -> tuple[int, float]:
    """Most pairs, then least sum, over all injections."""
    best = (0, 0.0)
    slots = list(range(len(found))) + [None] * len(true)
    for choice in set(itertools.permutations(slots, len(true))):
        pairs = [(a, b) for a, b in enumerate(choice) if b is not None]
        apart = [float(np.linalg.norm(true[a] - found[b])) for a, b in pairs]
        if all(d <= within for d in apart):
            best = max(best, (len(pairs), -sum(apart)))
    return best


points = st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=0, max_size=4)


@given(points, points, st.sampled_from([1.0, 2.5, 4.0]))
@settings(max_examples=40, deadline=None)
def test_match_is_the_best_there_is(a: list, b: list, within: float) -> None:
    true, found = (np.array(p, float).reshape(-1, 3) for p in (a, b))
    partner = match(true, found, within)
    rows = np.flatnonzero(partner >= 0)
    apart = np.linalg.norm(true[rows] - found[partner[rows]], axis=1)
    assert len(set(partner[rows])) == len(rows), "one to one"
    pairs, cost = best_by_brute_force(true, found, within)
    assert len(rows) == pairs
    assert apart.sum() == pytest.approx(-cost)


def test_match_of_many_is_scipys_assignment() -> None:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    random = np.random.default_rng(0)
    true, found = random.uniform(0, 60, (2, 300, 3))
    cost = cdist(true, found)
    forbidden = cost > 8
    rows, columns = linear_sum_assignment(np.where(forbidden, 1e6, cost))
    kept = ~forbidden[rows, columns]
    partner = match(true, found, 8)
    mine = np.flatnonzero(partner >= 0)
    assert len(mine) == kept.sum()
    total = cost[rows[kept], columns[kept]].sum()
    assert cost[mine, partner[mine]].sum() == pytest.approx(total)


def test_points_in_one_place_are_matched() -> None:
    assert match(np.ones((1, 3)), np.ones((1, 3)), 0.5).tolist() == [0]


def test_a_scene_by_hand() -> None:
    # Truth at 10, 20, 30; found at 11 (near 10), 28 (near 30), 50 (near nothing).
    truth = census((10, 5, 5), (20, 5, 5), (30, 5, 5))
    found = census((11, 5, 5), (28, 5, 5), (50, 5, 5))
    result = detect(truth, found, [Box.of((0, 0, 0), (60, 10, 10))], ONE, 4)
    sums = result.units().sum(0)
    assert scores.precision(sums) == pytest.approx(2 / 3)
    assert scores.recall(sums) == pytest.approx(2 / 3)
    assert scores.f1(sums) == pytest.approx(2 / 3)
    assert scores.count_error_percent(sums) == 0
    assert result.distance_um[[0, 2]].tolist() == [1, 2]


def test_distance_is_in_micrometres() -> None:
    truth, found = census((10, 0, 0)), census((12, 0, 0))
    box = [Box.of((0, 0, 0), (60, 10, 10))]
    assert detect(truth, found, box, (3.0, 1.0, 1.0), 5).partner_of_truth.tolist() == [-1]
    assert detect(truth, found, box, (2.0, 1.0, 1.0), 5).partner_of_truth.tolist() == [0]


def test_without_a_match_distance_it_is_the_median_radius() -> None:
    # Balls of radius 3, 3 and 30 voxels; a found one lies 2 voxels, 4 um off, another 8 um.
    sizes = [round(4 / 3 * np.pi * r**3) for r in (3, 3, 30)]
    truth = Census(np.arange(3), np.array(sizes), np.array([[9.0, 9, 9], [30, 9, 9], [60, 9, 9]]))
    found = census((11, 9, 9), (34, 9, 9))
    result = detect(truth, found, [Box.of((0, 0, 0), (90, 20, 20))], (2.0, 2.0, 2.0), None)
    assert result.within_um == pytest.approx(6, abs=0.05)
    assert result.partner_of_truth.tolist() == [0, -1, -1]


def test_a_pair_astride_the_boxs_face_is_no_error() -> None:
    truth, found = census((9.8, 5, 5), (20.2, 5, 5)), census((8.9, 5, 5), (19.1, 5, 5))
    # The box holds the first truth but not its partner, and the second partner but not its truth.
    result = detect(truth, found, [Box.of((10, 0, 0), (20, 10, 10))], ONE, 4)
    assert result.true_counts.tolist() == [True, False]
    assert result.found_counts.tolist() == [False, True]
    sums = result.units().sum(0)
    assert (scores.precision(sums), scores.recall(sums), scores.f1(sums)) == (1, 1, 1)


def test_small_truth_is_not_missed_but_may_be_found() -> None:
    truth = Census(np.array([1, 2]), np.array([5, 5]), np.array([[5.0, 5, 5], [15, 5, 5]]))
    result = detect(truth, census((5, 5, 5)), [Box.of((0, 0, 0), (20, 9, 9))], ONE, 4, 50)
    assert result.units().tolist() == [[0, 0, 1, 1]]


def test_each_scored_object_is_in_one_unit() -> None:
    random = np.random.default_rng(5)
    truth, found = (census(*random.uniform(0, 40, (60, 3))) for _ in range(2))
    boxes = [Box.of((0, 0, 0), (20, 40, 40)), Box.of((25, 0, 0), (40, 20, 40))]
    result = detect(truth, found, boxes, ONE, 5)
    sums = result.units().sum(0)
    assert sums[0] == result.true_counts.sum()
    assert sums[2] == result.found_counts.sum()
    assert sums[1] == (result.partner_of_truth[result.true_counts] >= 0).sum()
    assert sums[3] == (result.partner_of_found[result.found_counts] >= 0).sum()


def test_inside_counts_a_voxels_centre_as_its_index() -> None:
    box = [Box.of((0, 0, 0), (4, 4, 4))]
    assert inside(np.array([[0, 0, 0], [3.4, 0, 0], [3.6, 0, 0]]), box).tolist() == [1, 1, 0]

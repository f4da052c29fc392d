"""Scores and intervals against hand-worked numbers and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.evaluate import scores


def test_dice_and_iou_by_hand() -> None:
    sums = np.array([6.0, 2.0, 4.0])
    assert scores.dice(sums) == pytest.approx(12 / 18)
    assert scores.iou(sums) == pytest.approx(6 / 12)


def test_dice_is_that_of_scipy() -> None:
    from scipy.spatial.distance import dice

    a, b = np.random.default_rng(1).random((2, 500)) < 0.3
    sums = np.array([(a & b).sum(), (~a & b).sum(), (a & ~b).sum()], float)
    assert scores.dice(sums) == pytest.approx(1 - dice(a, b))


def test_precision_recall_and_f1_by_hand() -> None:
    sums = np.array([10.0, 8.0, 16.0, 8.0])
    assert scores.precision(sums) == pytest.approx(0.5)
    assert scores.recall(sums) == pytest.approx(0.8)
    assert scores.f1(sums) == pytest.approx(2 * 0.5 * 0.8 / 1.3)
    assert scores.count_error_percent(sums) == pytest.approx(60)


@pytest.mark.parametrize(
    ("sums", "expected"),
    [((5, 0, 3, 0), 0.0), ((5, 0, 0, 0), 0.0), ((0, 0, 3, 0), 0.0), ((0, 0, 0, 0), None)],
)
def test_f1_where_nothing_matches(sums: tuple[float, ...], expected: float | None) -> None:
    found = scores.score(np.array([sums], float), scores.f1, 0)
    assert found.as_json()["value"] == expected


def test_interval_of_a_proportion_is_the_binomial_one() -> None:
    # 60 hits among 200 objects: the 95 % interval of a share of 0.3 is 0.3 +- 1.96 * 0.0324.
    units = np.zeros((200, 4))
    units[:, 0] = 1
    units[:60, 1] = 1
    found = scores.score(units, scores.recall, 4000)
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - 1.96 * 0.0324, abs=0.007)
    assert found.high == pytest.approx(0.3 + 1.96 * 0.0324, abs=0.007)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        units = np.stack([np.ones(60), random.normal(2, 1, 60) ** 2], 1)
        found = scores.score(units, scores.root_mean_square, 200)
        assert found.low is not None and found.high is not None
        covered += found.low <= 5**0.5 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=2, max_size=20))
def test_value_lies_in_range_and_repeats(rows: list[tuple[int, ...]]) -> None:
    first = scores.score(np.array(rows), scores.dice, 50)
    assert first.as_json() == scores.score(np.array(rows), scores.dice, 50).as_json()
    if first.low is not None and first.high is not None:
        assert 0 <= first.low <= first.high <= 1

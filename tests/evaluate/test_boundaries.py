"""Boundaries and their average precision, against scikit-image and the definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import find_boundaries

from tessera.evaluate.boundaries import average_precision, ranks, thick
from tessera.volume.box import Box, Triple

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_thick_boundaries_are_those_of_scikit_image(seed):
    ids = np.random.default_rng(seed).integers(0, 3, (5, 6, 7))
    assert np.array_equal(thick(ids), find_boundaries(ids, mode="thick"))


def by_definition(score: np.ndarray, true: np.ndarray) -> float:
    """Sum over thresholds of (recall gained) x (precision), one threshold at a time."""
    total, before = 0.0, 0.0
    for level in np.unique(score)[::-1]:
        found = score >= level
        recall = (found & true).sum() / true.sum()
        total += (recall - before) * (found & true).sum() / found.sum()
        before = recall
    return total


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_average_precision_in_blocks_is_that_of_the_definition(seed):
    """Several boxes, larger than a block, with ids that go on beyond them."""
    random = np.random.default_rng(seed)
    shape = Triple(12, 80, 20)
    ids = np.repeat(np.repeat(random.integers(1, 9, (12, 20, 5)), 4, 1), 4, 2)
    probability = random.integers(0, 256, shape) // 16 * 16
    edge = find_boundaries(ids, mode="thick")
    probability = np.where(edge, np.minimum(probability + 60, 255), probability)
    boxes = [Box.of((2, 0, 0), (12, 70, 20)), Box.of((0, 70, 0), (2, 80, 20))]
    inside = np.zeros(shape, bool)
    for box in boxes:
        inside[box.slices] = True
    rows = ranks(lambda b: probability[b.slices], lambda b: ids[b.slices], boxes, shape)
    assert len(rows) == 3 and rows.sum() == inside.sum()
    wanted = by_definition(probability[inside], edge[inside])
    np.testing.assert_allclose(average_precision(rows.sum(0)), wanted, rtol=1e-9)


def test_a_perfect_and_a_blind_score():
    counts = np.zeros((2, 512))
    counts[0, 0], counts[0, 511] = 30, 70  # all boundary at 255, all else at 0
    counts[1, 100], counts[1, 356] = 30, 70  # all the same: the share of boundary
    np.testing.assert_allclose(average_precision(counts), [1.0, 0.3])

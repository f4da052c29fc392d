"""Scores of segmentations against scikit-image, hand-worked examples and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information

from tessera.errors import TesseraError
from tessera.evaluate import segmentation
from tessera.evaluate.segmentation import count_overlaps, scores, scores_of, sum_overlaps
from tessera.evaluate.skeletons import Skeleton, label_nodes, skeleton_scores

volumes = hnp.arrays(np.uint32, (4, 5, 6), elements=st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(volumes, volumes)
def test_agrees_with_scikit_image(labels, truth):
    found = scores(labels, truth)
    split, merge = _conditional(labels, truth)
    assert found["voi_split_whole"] == pytest.approx(split, abs=1e-9)
    assert found["voi_merge_whole"] == pytest.approx(merge, abs=1e-9)
    # scikit-image gives the same two, the false merges or the false splits first.
    assert sorted(variation_of_information(truth, labels)) == pytest.approx(
        sorted((split, merge)), abs=1e-9
    )


def _conditional(labels, truth):
    """H(labels | truth) and H(truth | labels) in bits, straight from the definition."""

    def entropy(ids):
        p = np.unique(ids, return_counts=True)[1] / ids.size
        return float(-(p * np.log2(p)).sum())

    joint = entropy(truth.astype(np.int64).ravel() * 100 + labels.ravel())
    return joint - entropy(truth), joint - entropy(labels)


@settings(max_examples=60, deadline=None)
@given(volumes, volumes)
def test_rand_agrees_with_scikit_image(labels, truth):
    found = scores(labels, truth)
    # scikit-image 0.26 divides its "precision" by the pairs of its first argument, the truth, and
    # its "recall" by those of the test; by the definition it is the other way round.
    error, recall, precision = adapted_rand_error(truth, labels, ignore_labels=())
    assert found["rand_error_whole"] == pytest.approx(error, abs=1e-9)
    assert found["rand_precision_whole"] == pytest.approx(precision, abs=1e-9, nan_ok=True)
    assert found["rand_recall_whole"] == pytest.approx(recall, abs=1e-9, nan_ok=True)


def test_one_object_cut_in_two_halves_costs_one_bit():
    truth = np.ones((1, 1, 8), np.uint32)
    labels = np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]], np.uint32)
    found = scores(labels, truth)
    assert (found["voi_split_whole"], found["voi_merge_whole"]) == (1.0, 0.0)
    # 2 x 4 x 3 joined pairs of 8 x 7: recall 3/7, precision 1, F 0.6.
    assert found["rand_recall_whole"] == pytest.approx(3 / 7)
    assert found["rand_error_whole"] == pytest.approx(0.4)
    swapped = scores(truth, labels)
    assert (swapped["voi_split_whole"], swapped["voi_merge_whole"]) == (0.0, 1.0)


def test_both_leaves_background_out_and_coverage_tells():
    truth = np.array([1, 1, 1, 1, 2, 2, 0, 0], np.uint32).reshape(1, 1, 8)
    labels = np.array([7, 7, 0, 0, 9, 9, 9, 0], np.uint32).reshape(1, 1, 8)
    found = scores(labels, truth)
    assert found["voi_sum_both"] == 0 and found["rand_error_both"] == 0
    assert found["coverage"] == pytest.approx(4 / 6)
    assert found["voi_sum_whole"] > 0


@settings(max_examples=30, deadline=None)
@given(volumes, volumes, st.permutations(range(1, 6)))
def test_names_of_objects_do_not_matter(labels, truth, names):
    table = np.array([0, *names], np.uint32)
    before, after = scores(labels, truth), scores(table[labels], truth)
    assert before == pytest.approx(after, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(volumes, volumes, st.integers(1, 3))
def test_blocks_add_up(labels, truth, cut):
    parts = [count_overlaps(labels[:cut], truth[:cut]), count_overlaps(labels[cut:], truth[cut:])]
    assert scores_of(sum_overlaps(parts)) == pytest.approx(scores(labels, truth), nan_ok=True)


def test_interior_and_bad_input():
    truth = np.ones((6, 6, 6), np.uint32)
    labels = np.full_like(truth, 2)
    labels[0] = 5
    assert scores(labels, truth, margin=1)["voi_sum_whole"] == 0
    assert scores(labels, truth)["voi_sum_whole"] > 0
    with pytest.raises(TesseraError, match="leaves nothing"):
        scores(labels, truth, margin=3)
    with pytest.raises(TesseraError, match="same box"):
        scores(labels[1:], truth)
    nothing = segmentation.Overlaps(*(np.zeros(0, np.int64),) * 3)
    assert np.isnan(scores_of(nothing)["voi_sum_whole"])


def test_curve_is_the_score_of_what_is_joined():
    random = np.random.default_rng(0)
    fragments = random.integers(0, 9, (6, 7, 8)).astype(np.uint32)
    truth = (fragments + 1) // 2  # pairs of fragments are one
    pairs = np.array([(1, 2), (3, 4), (5, 6), (2, 3)])
    joined = np.array([0.9, 0.8, 0.7, 0.2])
    table = count_overlaps(fragments, truth)
    curve = segmentation.threshold_curve(table, pairs, joined, [1.0, 0.75, 0.5, 0.0])
    assert curve[0]["voi_sum_whole"] == pytest.approx(scores(fragments, truth)["voi_sum_whole"])
    by_hand = fragments.copy()
    by_hand[fragments == 2], by_hand[fragments == 4] = 1, 3
    assert curve[1]["voi_sum_whole"] == pytest.approx(scores(by_hand, truth)["voi_sum_whole"])
    assert [c["objects"] for c in curve] == [8, 6, 5, 4]
    assert curve[2]["voi_merge_whole"] == 0 < curve[3]["voi_merge_whole"]


# --- skeletons ----------------------------------------------------------------------------------


def line(length, y):
    nodes = np.array([(0.0, y, x) for x in range(length + 1)])
    edges = np.array([(x, x + 1) for x in range(length)])
    return Skeleton(nodes, edges)


def test_run_length_of_a_split_line():
    # One neurite of 10 um, its ids change after node 4: 4 um and 5 um follow, one edge is split.
    skeleton = line(10, 0.0)
    ids = np.array([1] * 5 + [2] * 6)
    found = skeleton_scores([skeleton], [ids])
    assert found["edges_split"] == pytest.approx(0.1)
    assert found["edges_correct"] == pytest.approx(0.9)
    assert found["erl_um"] == pytest.approx((16 + 25) / 10)
    assert found["erl_most_um"] == pytest.approx(10)


def test_run_length_of_merged_and_omitted_lines():
    a, b, c = line(10, 0.0), line(10, 1.0), line(20, 2.0)
    gap = np.full(21, 3)
    gap[20] = 0
    found = skeleton_scores([a, b, c], [np.full(11, 1), np.full(11, 1), gap])
    assert found["edges_merged"] == pytest.approx(0.5)
    assert found["edges_omitted"] == pytest.approx(1 / 40)
    assert found["erl_um"] == pytest.approx(19**2 / 40)
    assert found["erl_most_um"] == pytest.approx((100 + 100 + 400) / 40)


def test_nodes_take_the_label_of_their_voxel():
    labels = np.arange(24).reshape(2, 3, 4)
    nodes = np.array([(0.0, 2.0, 3.1), (1.4, 4.0, 6.0), (9.0, 0.0, 0.0)])
    found = label_nodes(Skeleton(nodes, np.array([[0, 1]])), labels, (1.0, 2.0, 2.0))
    assert found.tolist() == [labels[0, 1, 2], labels[1, 2, 3], 0]
    with pytest.raises(TesseraError, match="no length"):
        skeleton_scores([], [])

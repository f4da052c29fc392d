"""Skeletons of true objects: lines of known length."""

import numpy as np
import pytest

from tessera.evaluate.skeletons import label_nodes, skeleton_scores
from tessera.evaluate.thin import true_skeletons


def test_straight_line_has_its_length_and_place():
    ids = np.zeros((5, 6, 30), np.uint32)
    ids[2, 3, 4:25] = 7
    (line,) = true_skeletons(ids, (3.0, 2.0, 0.5), (10.0, 0.0, 0.0))
    assert line.lengths_um().sum() == pytest.approx(20 * 0.5)
    assert (line.nodes_um[:, 0] == 16).all() and (line.nodes_um[:, 1] == 6).all()


def test_tube_is_thinned_and_forks_stay_trees():
    ids = np.zeros((9, 30, 40), np.uint32)
    ids[3:6, 13:16, 2:38] = 1
    ids[3:6, 13:28, 20:23] = 1
    ids[0, 0, 0] = 2  # no line in one voxel
    (fork,) = true_skeletons(ids, (1.0, 1.0, 1.0))
    assert len(fork.edges) == len(fork.nodes_um) - 1
    assert fork.lengths_um().sum() == pytest.approx(34 + 12, abs=5)


def test_objects_in_the_order_of_ids_and_without_background():
    ids = np.full((3, 3, 12), 9, np.uint32)
    ids[:, :, 6:] = 4
    assert len(true_skeletons(ids, (1.0, 1.0, 1.0))) == 2
    assert true_skeletons(ids * 0, (1.0, 1.0, 1.0)) == []


def test_a_cut_halves_the_run():
    ids = np.zeros((3, 3, 41), np.uint32)
    ids[1, 1] = 1
    labels = ids.copy()
    labels[..., 21:] = 2  # 40 edges, of which the middle one is split: 20 + 1 + 19
    lines = true_skeletons(ids, (1.0, 1.0, 1.0))
    found = skeleton_scores(lines, [label_nodes(s, labels, (1.0, 1.0, 1.0)) for s in lines], 5)
    assert found["edges_split"] == pytest.approx(1 / 40)
    assert found["erl_um"] == pytest.approx((20**2 + 19**2) / 40)

"""Resegmentation with a network that knows the truth."""

import numpy as np

from tessera.config import Fill
from tessera.predict.ffn.moves import drive
from tessera.predict.ffn.refill import Recovery, refill, window_about
from tests.predict.ffn.conftest import Oracle


def score(image, labels, pair):
    oracle, found = Oracle(), Recovery()
    rules = Fill(min_voxels=1)
    drive([refill(image, labels, pair, oracle.fov, oracle.deltas, rules, found)], oracle)
    return found, oracle.moves


def neurites():
    """Two neurites along x; the first is cut in two fragments at x = 16."""
    image = np.zeros((21, 25, 33), np.float32)
    image[:, :12], image[:, 13:] = 1, 2
    labels = np.zeros(image.shape, np.uint32)
    labels[:, :12, :16], labels[:, :12, 17:], labels[:, 13:] = 1, 2, 3
    return image, labels


def test_halves_of_one_recover_each_other():
    found, _ = score(*neurites(), (1, 2))
    assert found.row()[0] > 0.8 and found.iou > 0.8


def test_neighbours_recover_themselves_alone_and_cost_half():
    found, moves = score(*neurites(), (1, 3))
    assert found.b_from_a == 0 and found.row()[0] == 0 and found.a_from_a > 0.4
    _, both = score(*neurites(), (1, 2))
    assert 0 < moves < both


def test_other_fragments_stay():
    image, labels = neurites()
    image[:] = 1
    labels[:, :, 12:20] = 9  # somebody else's, between the two, wider than a field of view steps
    found, _ = score(image, labels, (1, 2))
    assert found.b_from_a == 0


def test_a_fragment_without_room_scores_nothing():
    image, labels = neurites()
    labels[labels == 2] = 0
    labels[0, 0, 0] = 2  # in the corner, where no field of view fits
    found, _ = score(image, labels, (2, 1))
    assert found.row() == [0] * 6


def test_window_stays_in_the_volume():
    assert window_about((0, 50, 99), 32, (100, 100, 100)).shape == (32, 32, 32)
    box = window_about((5, 5, 5), 32, (20, 100, 100))
    assert box.start == (0, 0, 0) and box.stop == (20, 32, 32)

"""Resegmentation with a network that knows the truth."""

import numpy as np

from tessera.config import Fill
from tessera.predict.ffn.moves import drive
from tessera.predict.ffn.refill import Contact, Recovery, refill, window_about
from tests.predict.ffn.conftest import Oracle


def score(image, labels, pair, point=(10, 6, 16)):
    oracle, found = Oracle(), Recovery()
    rules = Fill(min_voxels=1)
    contact = Contact(image, labels, pair, point)
    drive([refill(contact, oracle.fov, oracle.deltas, rules, found)], oracle)
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
    assert min(found.row()) > 0.8


def test_neighbours_recover_themselves_alone_and_cost_half():
    found, moves = score(*neurites(), (1, 3))
    assert found.b_from_a == 0 and found.a_from_a > 0.4
    _, both = score(*neurites(), (1, 2))
    assert 0 < moves < both


def test_the_smaller_is_filled_first_whatever_its_id():
    image, labels = neurites()
    swapped = np.array([0, 3, 2, 1], np.uint32)[labels]
    (one, moves), (other, as_many) = score(image, labels, (1, 3)), score(image, swapped, (1, 3))
    assert moves == as_many and one.a_from_a == other.b_from_b > 0 == other.a_from_a


def test_only_the_piece_at_the_contact_counts():
    image, labels = neurites()
    labels[:, 13:] = 0
    image[:, 13:20], image[:, 20:] = 2, 3
    labels[:, 21:] = 1  # fragment 1 comes by once more, and nobody gets there from here
    found, _ = score(image, labels, (1, 2))
    alone, _ = score(*neurites(), (1, 2))
    assert found == alone


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
    assert found.row() == [0] * 5


def test_window_stays_in_the_volume():
    assert window_about((0, 50, 99), 32, (100, 100, 100)).shape == (32, 32, 32)
    box = window_about((5, 5, 5), 32, (20, 100, 100))
    assert box.start == (0, 0, 0) and box.stop == (20, 32, 32)

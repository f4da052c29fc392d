"""Filling with a network that knows the truth: what it finds must be the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.config import Fill
from tessera.predict.ffn.canvas import EXCLUDED, Canvas, logit
from tessera.predict.ffn.fill import Filler, State
from tessera.predict.ffn.moves import drive
from tessera.predict.ffn.seeds import find_seeds
from tessera.predict.ffn.subvolumes import fill_subvolume
from tests.predict.ffn.conftest import Oracle

SHAPE = (21, 25, 29)  # steps of 2 from (10, 12, even) reach every voxel


def slabs():
    """Three objects side by side along x; value 0 between them."""
    image = np.zeros(SHAPE, np.float32)
    image[:, :, 1:9], image[:, :, 10:18], image[:, :, 19:28] = 1, 2, 3
    return image


def fill(image, seeds, rules=None, blocked=None, oracle=None):
    rules = rules or Fill(min_voxels=10)
    oracle = oracle or Oracle()
    canvas = Canvas(image, oracle.fov, blocked, logit(rules.pad))
    state = State()
    drive([Filler(canvas, oracle.deltas, rules).run(np.array(seeds), state)], oracle)
    return canvas.labels, state


def test_objects_are_filled_whole_and_apart():
    image = slabs()
    labels, state = fill(image, [(10, 12, 6), (10, 12, 14), (10, 12, 24)])
    assert np.array_equal(labels, image.astype(np.int32))
    assert [o[:3] for o in state.objects] == [(10, 12, 6), (10, 12, 14), (10, 12, 24)]
    assert [o[4] for o in state.objects] == [21 * 25 * 8, 21 * 25 * 8, 21 * 25 * 9]
    assert state.statistics.objects == 3 and state.statistics.wasted_moves == 0


def test_one_move_a_cell_and_none_outside():
    image = np.ones(SHAPE, np.float32)
    oracle = Oracle()
    _, state = fill(image, [(10, 12, 14)], oracle=oracle)
    cells = 1
    for n in SHAPE:  # lattice cells of 2 between the margins
        cells *= (n - 9) // 2 + 1
    assert 1 < oracle.moves == state.statistics.moves <= cells


def test_a_second_seed_in_an_object_costs_no_move():
    oracle = Oracle()
    fill(slabs(), [(10, 12, 6), (10, 12, 7)], oracle=oracle)
    once = Oracle()
    fill(slabs(), [(10, 12, 6)], oracle=once)
    assert oracle.moves == once.moves


def test_seeds_near_an_object_or_the_edge_are_passed_over():
    labels, state = fill(slabs(), [(10, 12, 6), (10, 12, 9), (1, 12, 14)])
    assert state.statistics.tried == 1
    assert labels[10, 12, 9] == EXCLUDED and labels[1, 12, 13] == 0


def test_small_objects_are_dropped_and_their_voxels_stay_free():
    image = slabs()
    image[10:12, 12:14, 13:15] = 7
    labels, state = fill(image, [(10, 12, 14), (10, 12, 16)], Fill(min_voxels=10))
    assert state.statistics.small == 1 and state.statistics.objects == 1
    assert labels[10, 12, 14] == EXCLUDED
    assert (labels > 0).sum() == (image == 2).sum()


def test_a_seed_that_falls_is_given_up():
    class Doubt(Oracle):
        def __call__(self, fields):
            return [np.full(f.shape[1:], -1, np.float32) for f in fields]

    labels, state = fill(np.ones(SHAPE, np.float32), [(10, 12, 14)], oracle=Doubt())
    assert state.statistics.weak == 1 and state.statistics.moves == 1
    assert (labels > 0).sum() == 0


def test_masked_voxels_are_never_centred_nor_labelled():
    image = np.ones(SHAPE, np.float32)
    blocked = np.zeros(SHAPE, bool)
    blocked[:, :, 13:23] = True  # wider than a field of view reaches
    labels, _ = fill(image, [(10, 12, 8)], blocked=blocked)
    assert (labels[..., :13] == 1).all() and not labels[..., 13:].any()
    _, state = fill(image, [(10, 12, 15)], blocked=blocked)
    assert state.statistics.tried == 0


def test_guard_keeps_out_what_was_out():
    canvas = Canvas(np.zeros((9, 9, 9), np.float32), (9, 9, 9), None, logit(0.05))
    canvas.begin((4, 4, 4), 3.0)
    first = np.full((9, 9, 9), -2, np.float32)
    first[:, :, 4] = 5
    canvas.accept((4, 4, 4), first.copy(), 2.0)
    second = np.full((9, 9, 9), 1, np.float32)
    second[:, :, 4] = 5
    kept = canvas.accept((4, 4, 4), second.copy(), 2.0)
    assert (kept[:, :, 4] == 5).all() and (kept[:, :, :4] == -2).all()
    # Without any sure voxel the network may change its mind.
    assert (canvas.accept((4, 4, 4), np.full((9, 9, 9), 1, np.float32), 2.0) == 1).all()


def test_unreached_voxels_look_like_the_pad():
    canvas = Canvas(np.zeros((11, 11, 11), np.float32), (9, 9, 9), None, logit(0.05))
    canvas.begin((5, 5, 5), logit(0.95))
    fields = np.empty((2, 9, 9, 9), np.float32)
    canvas.look((5, 5, 5), fields)
    assert fields[1, 4, 4, 4] == np.float32(logit(0.95))
    assert (np.delete(fields[1].ravel(), 364) == np.float32(logit(0.05))).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_random_objects_come_back_in_either_order(seed, reverse):
    random = np.random.default_rng(seed)
    image = np.kron(random.integers(1, 4, (3, 3, 4)), np.ones((7, 8, 8))).astype(np.float32)
    seeds = np.argwhere(np.ones(image.shape))[:: 1 + 2 * 97]
    labels, _ = fill(image, seeds[::-1] if reverse else seeds, Fill(min_voxels=1))
    for one in np.unique(labels[labels > 0]):
        assert len(np.unique(image[labels == one])) == 1  # never two values in one object


def test_many_fills_at_once_do_not_change_each_other():
    alone, together = Oracle(), Oracle()
    rules = Fill(min_voxels=10)
    jobs = []
    for place in [(10, 12, 6), (10, 12, 14), (10, 12, 24)]:
        labels, state = fill(slabs(), [place], oracle=alone)
        jobs.append((labels, state, place))
    canvases = [Canvas(slabs(), together.fov, None, logit(rules.pad)) for _ in jobs]
    states = [State() for _ in jobs]
    fills = [
        Filler(c, together.deltas, rules).run(np.array([p]), s)
        for c, s, (_, _, p) in zip(canvases, states, jobs, strict=True)
    ]
    drive(fills, together, at_once=2)
    assert max(together.at_once) == 2
    for canvas, state, (labels, known, _) in zip(canvases, states, jobs, strict=True):
        assert np.array_equal(canvas.labels, labels) and state == known


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 40, 700])
def test_a_killed_subvolume_goes_on_and_ends_the_same(tmp_path, after):
    random = np.random.default_rng(5)
    image = np.kron(random.integers(1, 5, (3, 3, 4)), np.ones((7, 8, 8))).astype(np.float32)
    rules = Fill(min_voxels=20, orders=("forward", "reverse"), checkpoint_minutes=1e-9)
    whole = fill_subvolume(image, None, Oracle(), rules)

    class Mortal(Oracle):
        def __call__(self, fields):
            if self.moves >= after:
                raise Killed
            return super().__call__(fields)

    path = tmp_path / "c.npz"
    with pytest.raises(Killed):
        fill_subvolume(image, None, Mortal(), rules, path, "key")
    rest = Oracle()
    again = fill_subvolume(image, None, rest, rules, path, "key")
    assert np.array_equal(again.labels, whole.labels) and again.states == whole.states
    total = sum(s.statistics.moves for s in whole.states)
    assert rest.moves == total - after  # what was done was not done again
    fresh = Oracle()
    fill_subvolume(image, None, fresh, rules, path, "another key")
    assert fresh.moves == total


# --- seeds --------------------------------------------------------------------------------------


def test_seeds_lie_in_the_middle_of_balls():
    at = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    image = np.zeros((40, 40, 40))
    centres = [(12, 12, 12), (28, 28, 28), (12, 28, 12)]
    for c in centres:
        image[((at - c) ** 2).sum(-1) < 36] = 100
    seeds = find_seeds(image)
    for c in centres:
        assert np.abs(seeds - c).max(1).min() <= 2
    assert seeds.tolist() == sorted(seeds.tolist())
    assert len(find_seeds(np.zeros((10, 10, 10)))) == 0


def test_mask_is_an_edge():
    random = np.random.default_rng(0)
    blocked = np.zeros((30, 30, 30), bool)
    blocked[:, :, :15] = True
    seeds = find_seeds(random.normal(0, 1, (30, 30, 30)), blocked)
    assert len(seeds) and not blocked[tuple(seeds.T)].any()

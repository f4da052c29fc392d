"""Contacts against a direct count, and joining by scores."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TesseraError
from tessera.label import finish
from tessera.label.assembly import contacts, join, plan
from tessera.settings.segment import Assembly
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tessera.volume.subvolume import load_arrays, save_arrays
from tests.label.assembly.test_assembly import assemble, cells, cut, same_partition


def whole(labels):
    return tuple(slice(0, n) for n in labels.shape)


def test_two_slabs_touch_in_their_plane():
    labels = np.zeros((7, 9, 10), np.uint32)
    labels[:, :, :4], labels[:, :, 5:] = 3, 8  # a plane of membrane between
    found = contacts.find_contacts(labels, whole(labels))
    assert found[:, :3].tolist() == [[3, 8, 63]]
    assert found[0, 3:5].tolist() == [3, 4]


def test_far_apart_is_no_contact():
    labels = np.zeros((7, 7, 20), np.uint32)
    labels[:, :, :4], labels[:, :, 11:] = 3, 8  # seven planes: more than twice the reach
    assert len(contacts.find_contacts(labels, whole(labels))) == 0
    assert len(contacts.find_contacts(labels * 0, whole(labels))) == 0


def test_faces_are_those_of_a_direct_count():
    labels = cells(4, (12, 14, 16), 8) + 1
    labels = labels.astype(np.uint32)
    count = {}
    for axis in range(3):
        a = np.moveaxis(labels, axis, 0)
        for p, q in zip(a[:-1].ravel(), a[1:].ravel(), strict=True):
            if p != q:
                pair = (int(min(p, q)), int(max(p, q)))
                count[pair] = count.get(pair, 0) + 1
    found = contacts.find_contacts(labels, whole(labels))
    assert {(a, b): n for a, b, n in found[:, :3].tolist()} == count
    for a, b, _, z, y, x in found.tolist():
        near = labels[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert {a, b} <= set(near.ravel().tolist())


def fragments(tmp_path, seed=2):
    """A known volume, assembled; a truth that joins some of its cells."""
    truth = cells(seed)
    cut(truth, tmp_path / "predict", 0)
    found = assemble(tmp_path / "predict", tmp_path / "fragments")
    return truth, found


@pytest.mark.parametrize("batches", [1, 3])
def test_contacts_of_blocks_are_those_of_the_whole(tmp_path, batches):
    _, found = fragments(tmp_path)
    made = plan.read(tmp_path / "fragments")
    stored = json.loads((tmp_path / "fragments" / "store.json").read_text())
    stored["batches"] = batches
    (tmp_path / "fragments" / "store.json").write_text(json.dumps(stored))
    for batch in range(batches):
        contacts.run_contacts(made.base.folder, batch, batches)
    contacts.merge_contacts(made.base.folder, 1)
    (kept,) = load_arrays(tmp_path / "fragments" / "contacts.npz", "contacts")
    expected = contacts.find_contacts(found, whole(found))
    assert np.array_equal(kept[:, :3], expected[:, :3])


def test_joining_by_scores(tmp_path):
    _, found = fragments(tmp_path)
    pairs = np.array([(1, 2, 50), (2, 3, 40), (4, 5, 60)])
    recovered = shares([0.9] * 4, [0.5] * 4, [0.8] * 4)
    units = tmp_path / "scores" / "units"
    save_arrays(units / "000000.npz", pairs=pairs[:2], recovered=recovered[:2])
    save_arrays(units / "000001.npz", pairs=pairs[2:], recovered=recovered[2:])
    save_arrays(units / "000002.npz", pairs=pairs[:1], recovered=recovered[:1])  # of a run before
    contacts = np.pad(pairs, [(0, 0), (0, 3)])
    save_arrays(tmp_path / "fragments" / "contacts.npz", contacts=contacts)
    out = tmp_path / "label"
    sure = Assembly(recovered=0.7)
    count = join.create(tmp_path / "fragments", tmp_path / "scores", sure, 2, out)
    for batch in (1, 0):
        join.run_relabel(out, batch, 2)
    assert finish.finish(plan.components.read(out)) == count == found.max() - 2
    joined = open_volume(out / "labels.zarr").read(Box.whole(found.shape))
    expected = found.copy()
    expected[found == 2], expected[found == 5] = 1, 4
    assert same_partition(joined, expected)
    objects = np.load(out / "objects.npz")
    assert objects["voxels"].tolist() == np.bincount(joined.ravel())[1:].tolist()
    first = [int(np.flatnonzero(joined.ravel() == i)[0]) for i in range(1, count + 1)]
    assert first == sorted(first)


def shares(*rows):
    """What is on disk of pairs: shares of a and b that the fill from a recovered, and from b."""
    four = np.array(rows, float).reshape(-1, 4)
    return np.column_stack([four, np.zeros(len(four))])


def test_one_fill_that_recovers_both_is_enough():
    pairs, voxels = np.array([(1, 2)]), np.array([50, 500])
    assert join.evidence(pairs, shares([0.9, 0.1, 0.8, 0.95]), voxels, 1000).tolist() == [0.8]
    assert join.evidence(pairs, shares([0.9, 0.1, 0.1, 0.95]), voxels, 1000).tolist() == [0.1]


def test_a_fragment_that_two_neurites_fill_stays_alone():
    pairs = np.array([(1, 3), (2, 3), (3, 4)])
    voxels = np.array([5000, 7000, 60, 9000])  # 3 lies between three large ones
    leaks = join.evidence(pairs, shares([1] * 4, [0.95] * 4, [0.99] * 4), voxels, 10**6)
    assert not leaks.any()
    clear = join.evidence(pairs, shares([1] * 4, [0.3] * 4, [0.5] * 4), voxels, 10**6)
    assert clear.tolist() == [1, 0, 0]


def test_a_neurite_keeps_all_fragments_of_which_it_is_the_best_partner():
    pairs, voxels = np.array([(1, 2), (1, 3), (2, 3)]), np.array([5000, 60, 50])
    found = join.evidence(pairs, shares([0.9] * 4, [0.8] * 4, [0.1] * 4), voxels, 10**6)
    assert found.tolist() == [0.9, 0.8, 0]


def test_two_large_fragments_are_never_joined():
    pairs, certain = np.array([(1, 2)]), shares([1] * 4)
    assert join.evidence(pairs, certain, np.array([101, 500]), 100).tolist() == [0]
    assert join.evidence(pairs, certain, np.array([100, 500]), 100).tolist() == [1]
    assert len(join.evidence(pairs[:0], certain[:0], np.array([1, 2]), 100)) == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_evidence_follows_from_the_pairs_in_any_order(seed, count):
    random = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(1, count + 1), 2)))
    recovered = shares(*random.random((len(pairs), 4)) ** 0.3)
    voxels = random.permutation(10 * count)[:count] + 1
    found = join.evidence(pairs, recovered, voxels, 5 * count)
    order = random.permutation(len(pairs))
    assert np.array_equal(
        join.evidence(pairs[order], recovered[order], voxels, 5 * count), found[order]
    )
    best = np.maximum(recovered[:, :2].min(1), recovered[:, 2:4].min(1))
    for (a, b), one in zip(pairs.tolist(), found.tolist(), strict=True):  # each pair by the words
        small = min(a, b, key=lambda i: voxels[i - 1])
        rivals = [
            best[k]
            for k, other in enumerate(pairs.tolist())
            if small in other
            and other != [a, b]
            and small == min(other, key=lambda i: voxels[i - 1])
        ]
        own = best[pairs.tolist().index([a, b])]
        joined = voxels[small - 1] <= 5 * count and all(own - r > 0.2 for r in rivals)
        assert one == (own if joined else 0)


def test_higher_thresholds_join_less_and_no_scores_are_said(tmp_path):
    pairs = np.array(list(itertools.combinations(range(1, 7), 2)))
    scores = np.random.default_rng(0).random(len(pairs))
    counts = [len(np.unique(join.join(6, pairs, scores, t))) for t in np.linspace(0, 1.01, 20)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] == 6
    with pytest.raises(TesseraError, match="refill"):
        join.read_recovered(tmp_path, np.ones((1, 6), np.int64))

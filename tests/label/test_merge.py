"""Blockwise labels against whole-volume labellings of cc3d and scipy, on random volumes."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tessera.label import fragments, merge
from tessera.volume.box import Grid

STRUCTURE = {6: 1, 18: 2, 26: 3}


def labelled(
    mask: np.ndarray, block: tuple[int, int, int], connectivity: int, min_voxels: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """All passes in memory: labels (z, y, x) and the objects' rows."""
    grid = Grid.of(mask.shape, block)

    def label(number: int) -> tuple[np.ndarray, int]:
        own = np.ascontiguousarray(mask[grid[number].write.slices])
        return fragments.label_box(own, connectivity)

    def load(number: int) -> fragments.Fragments:
        ids, count = label(number)
        found = fragments.describe(ids, count, grid[number], grid.shape)
        return fragments.from_entry(fragments.to_entry(found), grid[number].write.shape)

    begins, objects, pairs = merge.collect(grid, load, connectivity)
    root, count = merge.unite(int(begins[-1]), pairs)
    table, found = merge.number(objects, root, count, min_voxels)
    out = np.zeros(mask.shape, np.uint32)
    for at, place in enumerate(grid):
        ids, _ = label(at)
        own = np.concatenate([[0], table[begins[at] : begins[at + 1]]])
        out[place.write.slices] = own[ids]
    return out, found


def renumbered(labels: np.ndarray) -> np.ndarray:
    """Ids in the order of first voxels, by a way of its own."""
    values, first = np.unique(labels, return_index=True)
    order = [v for _, v in sorted(zip(first, values, strict=True)) if v]
    table = np.zeros(int(labels.max()) + 1, np.uint32)
    table[order] = np.arange(1, len(order) + 1)
    return table[labels]


volumes = st.builds(
    lambda seed, shape, filled: np.random.default_rng(seed).random(shape) < filled,
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 13)] * 3),
    st.sampled_from([0.05, 0.15, 0.3, 0.5, 0.9, 1.0]),
)
blocks = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=150, deadline=None)
@given(volumes, blocks, st.sampled_from([6, 18, 26]))
def test_equals_whole_volume_labelling(
    mask: np.ndarray, block: tuple[int, int, int], connectivity: int
) -> None:
    found, _ = labelled(mask, block, connectivity)
    by_cc3d = cc3d.connected_components(mask.view(np.uint8), connectivity=connectivity)
    structure = ndimage.generate_binary_structure(3, STRUCTURE[connectivity])
    by_scipy, _ = ndimage.label(mask, structure)
    np.testing.assert_array_equal(found, renumbered(by_cc3d))
    np.testing.assert_array_equal(found, renumbered(by_scipy))


@settings(max_examples=40, deadline=None)
@given(volumes, blocks, blocks, st.integers(0, 30))
def test_ids_do_not_depend_on_blocks_and_small_objects_drop_by_global_size(
    mask: np.ndarray, one: tuple[int, int, int], other: tuple[int, int, int], min_voxels: int
) -> None:
    first, objects = labelled(mask, one, 26, min_voxels)
    second, same = labelled(mask, other, 26, min_voxels)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(objects, same)
    whole = cc3d.connected_components(mask.view(np.uint8), connectivity=26)
    sizes = np.bincount(whole.ravel())
    np.testing.assert_array_equal(first > 0, mask & (sizes[whole] >= min_voxels))


@settings(max_examples=40, deadline=None)
@given(volumes, blocks)
def test_sums_are_those_of_the_objects(mask: np.ndarray, block: tuple[int, int, int]) -> None:
    labels, objects = labelled(mask, block, 18)
    boxes = ndimage.find_objects(labels.astype(np.int32))
    assert len(boxes) == len(objects)
    for number, (box, row) in enumerate(zip(boxes, objects, strict=True), start=1):
        places = np.argwhere(labels == number)
        assert row[fragments.VOXELS] == len(places)
        np.testing.assert_array_equal(row[fragments.SUM], places.sum(0))
        np.testing.assert_array_equal(row[fragments.START], [s.start for s in box])
        np.testing.assert_array_equal(row[fragments.STOP], [s.stop for s in box])
        assert row[fragments.FIRST] == np.flatnonzero(labels == number)[0]


@pytest.mark.parametrize(("connectivity", "objects"), [(6, 3), (18, 2), (26, 1)])
def test_edges_and_corners_across_blocks(connectivity: int, objects: int) -> None:
    """Three voxels in three blocks: two touch by an edge, two by the very corner of the blocks."""
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[3, 2, 1] = False
    mask[1, 1, 2] = mask[2, 2, 1] = True  # blocks (0,0,1) and (1,1,0): a corner
    mask[1, 2, 3] = True  # an edge of (1, 1, 2), block (0,1,1)
    found, _ = labelled(mask, (2, 2, 2), connectivity)
    assert found.max() == objects
    assert labelled(mask, (4, 4, 4), connectivity)[0].max() == objects


def test_a_snake_through_all_blocks_is_one_object() -> None:
    mask = np.zeros((1, 15, 15), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    found, objects = labelled(mask, (1, 2, 3), 6)
    assert found.max() == 1
    assert objects[0, fragments.VOXELS] == mask.sum()


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59))))
def test_united_as_scipy_does(size: int, pairs: list[tuple[int, int]]) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(a % size, b % size) for a, b in pairs], np.int64).reshape(-1, 2)
    root, count = merge.unite(size, ends)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    known, theirs = connected_components(graph, directed=False)
    assert count == known
    assert len(set(zip(root.tolist(), theirs.tolist(), strict=True))) == count


def test_a_long_chain_is_united_in_few_rounds() -> None:
    order = np.random.default_rng(0).permutation(100_000)
    root, count = merge.unite(len(order), np.stack([order[:-1], order[1:]], 1))
    assert count == 1 and not root.any()


def test_fragments_are_packed_and_unpacked() -> None:
    ids = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint32)
    grid = Grid.of((9, 9, 9), (4, 5, 6))
    found = fragments.describe(ids, 3, grid[0], grid.shape)
    again = fragments.from_entry(fragments.to_entry(found), (4, 5, 6))
    np.testing.assert_array_equal(again.objects, found.objects)
    for a, b in zip(again.faces, found.faces, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(again.faces[3], ids[:, -1])
    for change, size in (
        ({"fragments": 2}, (4, 5, 6)),
        ({}, (4, 5, 7)),
        ({"packed": ""}, (4, 5, 6)),
    ):
        with pytest.raises(ValueError, match="packed fragments"):
            fragments.from_entry(fragments.to_entry(found) | change, size)


def test_fragments_that_touch_are_measured_apart() -> None:
    """Labels need not be components: subvolumes of a flood-filling network touch."""
    ids = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint32)
    grid = Grid.of((5, 6, 7), (5, 6, 7))
    rows = fragments.measure(ids, 3, grid[0], grid.shape)
    for number, row in enumerate(rows, start=1):
        places = np.argwhere(ids == number)
        assert row[fragments.VOXELS] == len(places)
        np.testing.assert_array_equal(row[fragments.SUM], places.sum(0))
        np.testing.assert_array_equal(row[fragments.START], places.min(0))
        np.testing.assert_array_equal(row[fragments.STOP], places.max(0) + 1)

"""Boxes and grids: properties on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.volume.box import Box, Grid, Triple

small = st.tuples(*[st.integers(-6, 6)] * 3)
sizes = st.tuples(*[st.integers(1, 12)] * 3)
blocks = st.tuples(*[st.integers(1, 6)] * 3)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    start, size = draw(small), draw(st.tuples(*[st.integers(0, 8)] * 3))
    return Box.of(start, tuple(a + n for a, n in zip(start, size, strict=True)))


def voxels(box: Box) -> set[tuple[int, ...]]:
    return {tuple(np.add(box.start, index)) for index in np.ndindex(*box.shape)}


@given(boxes(), boxes())
def test_intersection_is_that_of_the_voxels(a: Box, b: Box) -> None:
    both = a.intersect(b)
    assert voxels(both) == voxels(a) & voxels(b)
    assert both.size == len(voxels(both)) and both.empty == (not voxels(both))
    assert a.contains(b) == (voxels(b) <= voxels(a))


@given(boxes(), small)
def test_shift_and_inside_undo_each_other(box: Box, by: tuple[int, int, int]) -> None:
    assert box.shift(by).shift(tuple(-v for v in by)) == box
    around = box.grow((2, 3, 4))
    array = np.zeros(around.shape)
    array[box.inside(around)] = 1
    assert array.sum() == box.size


def test_slices_and_text() -> None:
    box = Box.of((1, 2, 3), (4, 6, 8))
    assert np.zeros((9, 9, 9))[box.slices].shape == (3, 4, 5) == box.shape
    assert str(box) == "[1:4, 2:6, 3:8]"


@given(sizes, blocks, st.tuples(*[st.integers(0, 3)] * 3))
def test_write_boxes_tile_the_volume(
    shape: tuple[int, int, int], block: tuple[int, int, int], halo: tuple[int, int, int]
) -> None:
    grid = Grid.of(shape, block, halo)
    count = np.zeros(shape, int)
    for number, item in enumerate(grid):
        count[item.write.slices] += 1
        assert grid[number] == item == grid.at(item.index)
        assert grid.number(item.index) == number
        assert item.read == item.write.grow(halo)
        assert all(a % b == 0 for a, b in zip(item.write.start, block, strict=True))
    assert (count == 1).all() and len(grid) == number + 1


@given(sizes, blocks, st.integers(1, 40))
def test_batches_share_all_blocks(
    shape: tuple[int, int, int], block: tuple[int, int, int], of: int
) -> None:
    grid = Grid.of(shape, block)
    runs = [grid.batch(share, of) for share in range(of)]
    assert [n for run in runs for n in run] == list(range(len(grid)))
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_a_million_blocks_cost_nothing() -> None:
    grid = Grid.of((6400, 6400, 6400), (64, 64, 64))
    assert len(grid) == 10**6
    assert grid[999_999].index == Triple(99, 99, 99) and grid[999_999].name == "99.99.99"


def test_what_is_no_grid() -> None:
    for shape, block, halo in (
        ((0, 1, 1), (1, 1, 1), (0, 0, 0)),
        ((4, 4, 4), (1, 1, 1), (-1, 0, 0)),
    ):
        with pytest.raises(ValueError, match="no grid"):
            Grid.of(shape, block, halo)
    grid = Grid.of((4, 4, 4), (2, 2, 2))
    with pytest.raises(ValueError, match="does not exist"):
        grid.batch(3, 3)
    with pytest.raises(IndexError):
        grid[8]

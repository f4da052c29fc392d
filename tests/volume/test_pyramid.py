"""Coarser levels against scikit-image, counting by hand, and numpy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import block_reduce

from tessera.volume.box import Box, Grid, Triple
from tessera.volume.pyramid import Kind, build_pyramid, halve, halve_in_parts
from tessera.volume.store import Layout, create_volume, open_volume

shapes = st.tuples(*[st.integers(1, 7)] * 3)


@settings(deadline=None)
@given(st.data(), shapes)
def test_the_mean_is_of_real_voxels(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    floats = st.floats(-1e3, 1e3, width=32)
    a = data.draw(hnp.arrays(np.float32, shape, elements=floats))
    total = block_reduce(a.astype(float), 2, np.sum)
    count = block_reduce(np.ones(shape), 2, np.sum)
    np.testing.assert_allclose(halve(a, "mean"), total / count, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(st.data(), shapes)
def test_a_label_is_the_most_frequent(data: st.DataObject, shape: tuple[int, int, int]) -> None:
    even = tuple(n + n % 2 for n in shape)
    a = data.draw(hnp.arrays(np.uint32, even, elements=st.integers(0, 3)))
    coarse = halve(a, "label")
    for index in np.ndindex(*coarse.shape):
        eight = a[tuple(slice(2 * i, 2 * i + 2) for i in index)].ravel().tolist()
        votes = Counter(eight)
        best = max(votes.values())
        assert coarse[index] == min(v for v, n in votes.items() if n == best)


def test_integers_are_rounded_not_cut() -> None:
    a = np.zeros((2, 2, 2), np.uint8)
    a[0] = 255
    a[1] = 254
    assert halve(a, "mean").tolist() == [[[254]]]  # 254.5 to even
    a[1, 0, 0] = 255
    assert halve(a, "mean").tolist() == [[[255]]]


@pytest.mark.parametrize("channels", [(), ("a", "b")])
def test_levels_on_disk(tmp_path: Path, channels: tuple[str, ...]) -> None:
    layout = Layout(
        Triple(21, 34, 19),
        "float32",
        (1.0,) * 3,
        Triple(8, 8, 8),
        Triple(8, 16, 8),
        channels,
        levels=4,
    )
    volume = create_volume(tmp_path / "v.zarr", layout)
    lead = (len(channels),) if channels else ()
    data = np.random.default_rng(0).normal(size=(*lead, *layout.shape)).astype(np.float32)
    for block in Grid.of(layout.shape, layout.shard):
        volume.write(block.write, data[(..., *block.write.slices)])
    build_pyramid(tmp_path / "v.zarr", "mean", "d")
    for level in (1, 2, 3):
        data = halve(data, "mean")
        coarse = open_volume(tmp_path / "v.zarr", level)
        np.testing.assert_array_equal(coarse.read(Box.whole(coarse.shape)), data)
    # Made again only if the finest level is another.
    file = open_volume(tmp_path / "v.zarr", 1).shard_files(Box.whole((1, 1, 1)))[0]
    first = file.stat().st_mtime_ns
    build_pyramid(tmp_path / "v.zarr", "mean", "d")
    assert file.stat().st_mtime_ns == first
    build_pyramid(tmp_path / "v.zarr", "mean", "e")
    assert file.stat().st_mtime_ns != first


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(*[st.integers(1, 11)] * 3),
    st.sampled_from(("uint8", "uint16", "float32")),
    st.sampled_from(("mean", "label")),
    st.integers(1, 5),
    st.booleans(),
)
def test_in_parts_it_is_the_same(
    shape: tuple[int, int, int], dtype: str, kind: Kind, threads: int, channels: bool
) -> None:
    size = (2, *shape) if channels else shape
    data = np.random.default_rng(0).integers(0, 250, size).astype(dtype)
    np.testing.assert_array_equal(halve_in_parts(data, kind, threads), halve(data, kind))

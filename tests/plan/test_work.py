"""Counts that are calculated, against counts of what is really there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.config import Model
from tessera.plan import work
from tessera.plan.network import network, together
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.pyramid import halve
from tessera.volume.store import Layout, create_volume

SIZES = st.tuples(*[st.integers(1, 40)] * 3)
BLOCKS = st.tuples(*[st.integers(3, 20)] * 3)
HALOS = st.tuples(*[st.integers(0, 3)] * 3)


@given(SIZES, BLOCKS, HALOS)
def test_read_boxes_of_a_whole_grid(
    shape: tuple[int, int, int], block: tuple[int, int, int], halo: tuple[int, int, int]
) -> None:
    grid = Grid.of(shape, block, halo)
    whole = Box.whole(shape)
    assert work.blocks(shape, block) == len(grid)
    # The last block of an axis may be smaller than the halo of the one before it.
    if all(n % b == 0 or n % b >= h for n, b, h in zip(shape, block, halo, strict=True)):
        inside = sum(b.read.intersect(whole).size for b in grid)
        assert work.read_voxels(shape, block, halo) == inside


@given(SIZES, BLOCKS, HALOS)
def test_kinds_of_blocks(
    shape: tuple[int, int, int], block: tuple[int, int, int], halo: tuple[int, int, int]
) -> None:
    seen: Counter[tuple[Triple, ...]] = Counter()
    for one in Grid.of(shape, block, halo):
        read = one.read.intersect(Box.whole(shape))
        ends = [
            sorted((w - r, s - v))
            for w, r, s, v in zip(
                one.write.start, read.start, read.stop, one.write.stop, strict=True
            )
        ]
        seen[one.write.shape, *(Triple(*end) for end in zip(*ends, strict=True))] += 1
    assert {tuple(kind): n for *kind, n in work.kinds(shape, block, halo)} == seen


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 3), st.booleans())
def test_files_of_a_volume(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    levels: int,
    channels: bool,
) -> None:
    folder = tmp_path_factory.mktemp("volume") / "v.zarr"
    shard = Triple(16, 8, 16)
    names = ("a", "b") if channels else ()
    volume = create_volume(
        folder,
        Layout(Triple(*shape), "uint8", (1, 1, 1), Triple(8, 8, 8), shard, names, levels=levels),
    )
    data = np.ones((2, *shape) if channels else shape, np.uint8)
    for level in range(levels):
        written = type(volume)(folder, level)
        written.write(Box.whole(written.shape), data)
        data = np.stack([halve(c, "mean") for c in data]) if channels else halve(data, "mean")
    found = sum(1 for _ in folder.rglob("*")) + 1  # the folder itself
    assert work.volume_files(shape, shard, levels, channels) == found


@pytest.mark.parametrize("net", ["unet3d", "segnet", "unet2d"])
def test_flops_are_those_that_torch_counts(net: str) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tessera.nets.registry import build

    model = Model(net=net, classes=("background", "soma"), channels=(4, 8), patch=(16, 16, 16))
    facts = network(model)
    size = tuple(a * -(-40 // a) for a in facts.align)
    built = build(net, facts.outputs, model.channels, {}).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        built(torch.zeros((1, 1, *size)))
    assert facts.gflop(size) == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-9)
    assert facts.parameters == sum(p.numel() for p in built.parameters())


def test_flops_of_a_flood_filling_move() -> None:
    # 45.83 GFLOP and 638,433 parameters: doi:10.1038/s41592-018-0049-4 with a view of 33 voxels.
    facts = network(Model(net="ffn", classes=("neuron",)))
    assert facts.gflop((33, 33, 33)) == pytest.approx(45.83, rel=0.01)
    assert facts.parameters == 638_433
    assert facts.moves == (8, 8, 8)


def test_a_write_box_costs_less_than_its_read_box() -> None:
    facts = network(Model(classes=("background", "soma"), channels=(4, 8)))
    read = tuple(32 + 2 * h for h in facts.halo)
    wanted = tuple((h, h + 32) for h in facts.halo)
    assert facts.gflop((32, 32, 32)) < facts.gflop(read, wanted) < facts.gflop(read)


def test_an_ensemble_is_its_members_one_after_the_other() -> None:
    small = network(Model(classes=("background", "soma"), channels=(4, 8)))
    large = network(Model(classes=("background", "soma"), channels=(4, 8, 16)))
    both = together([small, large])
    size = (64, 64, 64)
    assert both.gflop(size) == pytest.approx(small.gflop(size) + large.gflop(size))
    assert both.halo == tuple(map(max, small.halo, large.halo))
    assert both.voxel_bytes == max(small.voxel_bytes, large.voxel_bytes)

"""Self-configuration: what it says must fit the volume, the network and the memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.config import Model
from tessera.errors import TesseraError
from tessera.nets.registry import build
from tessera.train.suggest import suggest

GIB = 2**30


@given(
    st.tuples(st.integers(1, 400), *[st.integers(16, 400)] * 2),
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
    st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_a_suggestion_is_a_model_that_fits(shape, voxel_um, gpu):
    found = suggest(shape, voxel_um, 3, 16 * GIB, gpu)
    net = build(found.net, 3, found.channels, found.net_options)
    assert all(p % a == 0 and p <= n for p, a, n in zip(found.patch, net.align, shape, strict=True))
    assert found.halo_vox == tuple(net.halo) and 3 * found.memory_gib <= 16.1
    Model(
        classes=("background", "a", "b"),
        channels=found.channels,
        patch=found.patch,
        batch=found.batch,
        net_options=found.net_options,
    )


def test_thick_sections_are_not_pooled_until_features_are_isotropic():
    found = suggest((100, 500, 500), (4.0, 1.0, 1.0), 2, 16 * GIB)
    assert found.net_options == {"stem": [1, 2, 2], "strides": [[1, 2, 2]]}
    assert found.patch[0] < found.patch[1] == found.patch[2]


def test_a_few_planes_are_seen_one_by_one():
    found = suggest((3, 500, 500), (1.0,) * 3, 2, 16 * GIB)
    assert found.net == "unet2d" and found.patch == (1, 64, 64) and found.batch == 32
    assert found.halo_vox[0] == 0 < found.halo_vox[1]


def test_less_memory_means_fewer_then_smaller_samples_and_then_a_sentence():
    first, second, third = (suggest((200,) * 3, (1.0,) * 3, 3, gib * GIB) for gib in (8, 0.3, 0.1))
    assert (first.batch, second.batch, third.batch) == (2, 1, 1)
    assert first.patch == second.patch > third.patch
    with pytest.raises(TesseraError, match="give patch and channels"):
        suggest((200,) * 3, (1.0,) * 3, 3, 0.01 * GIB)

"""Networks against what their papers and the definition of a receptive field say."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.errors import TesseraError
from tessera.nets import norm, registry
from tessera.nets.norm import BatchNorm
from tessera.nets.unet3d import still

CASES = [
    ("unet3d", (4, 6), {}),
    ("unet3d", (4, 6), {"norm": "batch"}),
    ("unet3d", (4, 6), {"norm": "none", "detail": 3}),
    ("unet3d", (4, 6), {"stem": 1, "residual": False}),
    ("unet3d", (4, 5, 6), {"stem": 1, "strides": [[1, 2, 2], [2, 2, 2]], "convs": 1}),
    ("unet3d", (4, 6), {"stem": [1, 4, 4], "kernel": [1, 3, 3], "convs": 1}),
    ("unet3d", (4, 6), {"detail": 3}),
    ("unet2d", (4, 6), {}),
    ("segnet", (4, 6), {"convs": 1}),
    ("segnet", (4, 6), {"stride": [1, 2, 2], "kernel": [1, 3, 3]}),
]


def _ready(name: str, channels: tuple[int, ...], options: dict) -> torch.nn.Module:
    """A network with random statistics, as after a training."""
    torch.manual_seed(0)
    net = registry.build(name, 2, channels, options)
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return net.eval().double().requires_grad_(False)


@pytest.mark.parametrize(("name", "channels", "options"), CASES)
def test_a_block_with_its_halo_sees_what_the_whole_sees(name, channels, options):
    net = _ready(name, channels, options)
    halo, align = net.halo, net.align
    write = [max(4, a) for a in align]
    # The whole: two blocks and their halos, and more beyond.
    shape = [2 * h + 3 * w + 2 * a for h, w, a in zip(halo, write, align, strict=True)]
    shape = [-(-s // a) * a for s, a in zip(shape, align, strict=True)]
    volume = torch.from_numpy(np.random.default_rng(1).normal(size=shape))[None, None]
    whole = net(volume)
    starts = [h + a for h, a in zip(halo, align, strict=True)]
    cut = tuple(slice(s - h, s + w + h) for s, w, h in zip(starts, write, halo, strict=True))
    inner = tuple(slice(h, h + w) for h, w in zip(halo, write, strict=True))
    place = tuple(slice(s, s + w) for s, w in zip(starts, write, strict=True))
    block = net(volume[(..., *cut)])[(..., *inner)]
    torch.testing.assert_close(block, whole[(..., *place)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "channels", "options"), CASES)
def test_the_halo_is_the_receptive_field_and_no_more(name, channels, options):
    """Gradients of a positive copy of the network touch all that an output can depend on."""
    net = _ready(name, channels, options)
    if name == "segnet":
        pytest.skip("index unpooling has no gradient along its indices")
    for parameter in net.parameters():
        parameter.abs_().add_(0.01)
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.zero_()
    far = [0, 0, 0]
    shape = [2 * h + 3 * a for h, a in zip(net.halo, net.align, strict=True)]
    for phase in range(max(net.align)):
        at = [h + a + phase % a for h, a in zip(net.halo, net.align, strict=True)]
        volume = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
        net(volume)[(0, 0, *at)].backward()
        seen = volume.grad[0, 0].nonzero()
        for axis in range(3):
            low, high = int(seen[:, axis].min()), int(seen[:, axis].max())
            far[axis] = max(far[axis], at[axis] - low, high - at[axis])
    if not options.get("residual", name == "unet3d"):
        # Max pooling passes a gradient to one of its inputs only: a lower bound.
        assert all(f <= h for f, h in zip(far, net.halo, strict=True))
    else:
        rounded = tuple(-(-f // a) * a for f, a in zip(far, net.align, strict=True))
        assert rounded == net.halo


@pytest.mark.parametrize(("name", "channels", "options"), CASES)
def test_folding_leaves_plain_convolutions_that_say_the_same(name, channels, options):
    net = _ready(name, channels, options)
    x = torch.randn(1, 1, *(4 * a for a in net.align), dtype=torch.float64)
    folded = norm.fold(copy.deepcopy(net))
    torch.testing.assert_close(folded(x), net(x), rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, BatchNorm) for m in folded.modules())
    plain = registry.build(name, 2, channels, {**options, "norm": "none"})
    assert set(plain.state_dict()) == set(folded.state_dict())


def test_residual_branches_begin_as_nothing_where_no_norm_holds_them():
    """Zhang 2019, arXiv:1901.09321: a network of any depth is its skips alone."""
    torch.manual_seed(0)
    deep = registry.build("unet3d", 2, (8,), {"stem": 1, "convs": 9, "norm": "none"})
    twin = copy.deepcopy(deep)
    still(twin)
    x = torch.randn(1, 1, 8, 8, 8)
    alone = twin.head(torch.relu(twin.encode[0].skip(torch.relu(twin.stem(x)))))
    torch.testing.assert_close(twin(x), alone)
    assert not torch.allclose(deep(x), alone)
    twin(x).sum().backward()  # and the branch learns from the first step on
    assert twin.encode[0].units[-1][0].weight.grad.abs().sum() > 0
    held = registry.build("unet3d", 2, (8,), {"norm": "batch"})
    still(held)
    assert held.encode[0].units[-1][0].weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "found"),
    [({}, 0), ({"detail": 3}, 2), ({"residual": False}, 6), ({"norm": "batch", "detail": 3}, 8)],
)
def test_plain_norms_are_where_no_skip_passes_by(options, found):
    net = registry.build("unet3d", 2, (4, 6), options)  # three blocks of two convolutions
    assert sum(isinstance(m, BatchNorm) for m in net.modules()) == found


def test_planes_of_the_flat_network_do_not_see_each_other():
    net = _ready("unet2d", (4, 6), {})
    x = torch.randn(1, 1, 3, 16, 16, dtype=torch.float64)
    other = x.clone()
    other[:, :, 1] = 7.0
    assert torch.equal(net(x)[:, :, 0], net(other)[:, :, 0])
    assert not torch.equal(net(x)[:, :, 1], net(other)[:, :, 1])
    assert net.halo[0] == 0 and net.align[0] == 1


def test_unpooling_puts_a_maximum_back_where_it_was():
    """SegNet's figure 3: the decoder's sparse map has the value at the maximum's place."""
    x = torch.tensor([[1.0, 2.0], [4.0, 3.0]]).view(1, 1, 1, 2, 2)
    pooled, place = torch.nn.functional.max_pool3d_with_indices(x, (1, 2, 2))
    back = torch.nn.functional.max_unpool3d(pooled, place, (1, 2, 2))
    assert back.view(2, 2).tolist() == [[0, 0], [4, 0]]


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_shared_norm_is_the_librarys_on_all_samples_together(seed, samples, channels):
    """One rank whose reduction does nothing must be nn.BatchNorm3d, gradients and all."""
    torch.manual_seed(seed)
    own, peer = BatchNorm(channels).double(), torch.nn.BatchNorm3d(channels).double()
    own.reduce = lambda t: t
    torch.nn.init.normal_(own.weight)
    peer.load_state_dict(own.state_dict())
    x = torch.randn(samples, channels, 3, 4, 5, dtype=torch.float64) * 3 + 1
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    g = torch.randn_like(x)
    own(a).backward(g)
    peer(b).backward(g)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(own.weight.grad, peer.weight.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(own.running_var, peer.running_var, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(own.running_mean, peer.running_mean, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("resnet", {}, "no network is called"),
        ("unet3d", {"depth": 3}, "depth"),
        ("unet3d", {"kernel": 4}, "odd"),
        ("unet3d", {"stem": 3}, "1, 2 or 4"),
        ("unet3d", {"stem": 1, "detail": 4}, "beside a stem"),
        ("unet3d", {"strides": [2, 2]}, "strides"),
        ("unet3d", {"norm": "instance"}, "norm"),
    ],
)
def test_what_cannot_be_built_is_said(name, options, said):
    with pytest.raises(TesseraError, match=said):
        registry.build(name, 2, (4, 6), options)

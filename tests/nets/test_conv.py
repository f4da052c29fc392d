"""The convolution that learns: against torch's own, in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tessera.nets.conv import Conv3d
from tessera.nets.winograd_gradient import weight_gradient

CHANNELS = st.sampled_from([8, 16, 24, 32, 40, 48])


def learn(layer: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """What a layer makes of ``x``, and the gradients that follow from ``grad``."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(grad)
    assert x.grad is not None
    found = {"out": out.detach(), "of x": x.grad}
    return found | {f"of {n}": p.grad for n, p in layer.named_parameters() if p.grad is not None}


def compare(mine: nn.Conv3d, x: Tensor, grad: Tensor) -> None:
    """Compare with the same layer of torch in double precision: 1e-4 of the largest value."""
    theirs = nn.Conv3d(
        mine.in_channels, mine.out_channels, mine.kernel_size, padding=mine.padding,
        bias=mine.bias is not None,
    ).double()  # fmt: skip
    theirs.load_state_dict(mine.state_dict())
    found, truth = learn(mine, x, grad), learn(theirs, x.double(), grad.double())
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        assert (found[name] - value).abs().max() < 1e-4 * value.abs().max(), name


@settings(deadline=None, max_examples=25)
@given(
    inputs=CHANNELS,
    outputs=CHANNELS,
    size=st.tuples(*[st.integers(1, 14)] * 3),
    samples=st.integers(1, 3),
    bias=st.booleans(),
    last=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_gradients_are_those_of_torch(
    inputs: int,
    outputs: int,
    size: tuple[int, int, int],
    samples: int,
    bias: bool,
    last: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    kind = torch.channels_last_3d if last else torch.contiguous_format
    x = torch.randn(samples, inputs, *size).contiguous(memory_format=kind)
    grad = torch.randn(samples, outputs, *size).contiguous(memory_format=kind)
    compare(Conv3d(inputs, outputs, 3, padding=1, bias=bias), x, grad)


def test_a_product_of_matrices_is_a_convolution_by_one_voxel() -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 5, 4, 6, 3), torch.randn(2, 7, 4, 6, 3)
    compare(Conv3d(5, 7, 1), x, grad)


@pytest.mark.parametrize("inputs, outputs", [(1, 8), (8, 3), (12, 8)])
def test_other_channels_are_left_to_torch(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(1, inputs, 5, 5, 5), torch.randn(1, outputs, 5, 5, 5)
    compare(Conv3d(inputs, outputs, 3, padding=1), x, grad)


def test_threads_change_no_bit() -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 24, 20, 17, 31), torch.randn(2, 48, 20, 17, 31)
    one = weight_gradient(x, grad, 1)
    assert torch.equal(one, weight_gradient(x, grad, 3))
    assert torch.equal(one, weight_gradient(x, grad, 1))


def test_a_large_map_of_many_patches() -> None:
    torch.manual_seed(0)
    compare(
        Conv3d(16, 8, 3, padding=1), torch.randn(1, 16, 9, 40, 70), torch.randn(1, 8, 9, 40, 70)
    )

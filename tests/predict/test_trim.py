"""What is trimmed against the network as it stands."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tessera.nets.norm import fold
from tessera.nets.unet3d import UNet3d
from tessera.predict.trim import Trimmed, Untrimmable


def net_of(channels: tuple[int, ...], **options: Any) -> UNet3d:
    torch.manual_seed(1)
    net = UNet3d(2, channels, **options).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net


NETS = [
    ((4, 8), {"stem": 1, "residual": False}),
    ((2, 4, 6), {"stem": 1}),
    ((4, 8), {"stem": 2}),
    ((4, 8), {"stem": [1, 2, 2], "strides": [[1, 2, 2]]}),
    ((4,), {"stem": 1, "norm": "none", "convs": 1}),
    ((8, 16), {"stem": 1, "residual": False}),
    ((16, 24), {"stem": 2}),
    ((16, 24), {"stem": 2, "detail": 8}),
    ((8, 16), {"stem": [1, 2, 2], "detail": 3}),
    ((8, 16), {"stem": [1, 2, 2], "strides": [[1, 2, 2]]}),
]


@pytest.mark.parametrize(("channels", "options"), NETS)
@pytest.mark.parametrize("filtered", [False, True])
def test_equals_the_whole_network(
    channels: tuple[int, ...], options: dict[str, Any], filtered: bool
) -> None:
    net = net_of(channels, **options)
    write = (8, 16, 8)
    x = torch.randn(1, 1, *(w + 2 * h for w, h in zip(write, net.halo, strict=True)))
    part = tuple((h, h + w) for w, h in zip(write, net.halo, strict=True))
    with torch.inference_mode():
        whole = net(x)[(..., *(slice(*span) for span in part))]
        trimmed = Trimmed(fold(net), filtered)(x, part)  # type: ignore[arg-type]
    torch.testing.assert_close(trimmed, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


@pytest.mark.parametrize(("channels", "options"), NETS)
@pytest.mark.parametrize("filtered", [False, True])
def test_padded_it_is_the_network_up_to_every_edge(
    channels: tuple[int, ...], options: dict[str, Any], filtered: bool
) -> None:
    net = net_of(channels, **options)
    shape = (16, 24, 32)
    x = torch.randn(1, 1, *shape)
    trimmed = Trimmed(fold(net), filtered, padded=True)
    with torch.inference_mode():
        whole = net(x)
        for part in (
            ((0, 16), (0, 24), (0, 32)), ((0, 8), (8, 16), (8, 24)), ((8, 16), (0, 8), (24, 32)),
            ((4, 8), (20, 24), (0, 4)),
        ):  # fmt: skip
            expected = whole[(..., *(slice(*span) for span in part))]
            close = 1e-4 * float(whole.abs().max())
            torch.testing.assert_close(trimmed(x, part), expected, rtol=1e-4, atol=close)


def test_padded_it_refuses_what_is_no_whole_stride() -> None:
    trimmed = Trimmed(net_of((2, 4), stem=1), padded=True)
    assert trimmed.sees((8, 8, 8), ((0, 8), (0, 8), (0, 8)))
    assert not trimmed.sees((8, 7, 8), ((0, 8), (0, 7), (0, 8)))


class Mean(nn.Module):
    """Two 3^3 means one after the other, and a skip: what they give can be said by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.b = nn.Conv3d(1, 1, 3, padding=1, bias=False)
        self.act = nn.LeakyReLU(0.5, inplace=True)
        nn.init.constant_(self.a.weight, 1 / 27)
        nn.init.constant_(self.b.weight, 1 / 27)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) + self.act(x)


def test_a_constant_is_a_constant_only_where_no_padding_is_seen() -> None:
    x = torch.ones(1, 1, 9, 9, 9)
    trimmed = Trimmed(Mean())
    torch.testing.assert_close(trimmed(x, ((2, 7),) * 3), torch.full((1, 1, 5, 5, 5), 2.0))
    assert not trimmed.sees((9, 9, 9), ((1, 7), (2, 7), (2, 7)))
    with pytest.raises(Untrimmable, match="needs voxels"):
        trimmed(x, ((1, 7), (2, 7), (2, 7)))


def test_in_place_layers_leave_the_input_alone() -> None:
    x = -torch.ones(1, 1, 9, 9, 9)
    torch.testing.assert_close(Trimmed(Mean())(x, ((2, 7),) * 3), torch.full((1, 1, 5, 5, 5), -1.5))
    assert bool((x == -1).all())


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(0, 3)] * 3),
)
def test_identity_returns_its_input(size: tuple[int, int, int], halo: tuple[int, int, int]) -> None:
    """For every block size and halo."""
    x = torch.randn(1, 1, *(n + 2 * h for n, h in zip(size, halo, strict=True)))
    part = tuple((h, h + n) for n, h in zip(size, halo, strict=True))
    found = Trimmed(nn.Sequential(nn.Identity()))(x, part)  # type: ignore[arg-type]
    assert torch.equal(found, x[(..., *(slice(*span) for span in part))])


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(Untrimmable, match="InstanceNorm3d"):
        Trimmed(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2)))
    with pytest.raises(Untrimmable, match="reflect"):
        Trimmed(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1, padding_mode="reflect")))

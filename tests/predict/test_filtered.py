"""A graph that was rewritten against the network as it stands."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tessera.nets import phases, planar
from tessera.nets.columns import Columns, fits
from tessera.predict.trim import Trimmed


class Net(nn.Module):
    """A norm that follows its convolution, one ReLU that is shared, maps that are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.a = nn.Conv3d(8, 16, 3, padding=1, bias=False)
        self.b = nn.Conv3d(24, 8, 3, padding=1)
        self.c = nn.Conv3d(32, 8, 3, padding=1)
        self.thin = nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1))
        self.bend = nn.PReLU(init=0.3)
        self.last = nn.Conv3d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        a = self.a(x)  # its ReLU is not its only user
        joined = torch.cat([torch.relu(a), x], 1)
        b = torch.relu(self.b(joined))
        c = self.bend(self.c(torch.cat([joined, b], 1)))
        return self.last(self.thin(c)) + self.last(self.thin(b))


class Sums(nn.Module):
    """Sums before and after a ReLU, of convolutions, used twice; convolutions of one map."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.a, self.b, self.c, self.d, self.e = (nn.Conv3d(8, 8, 3, padding=1) for _ in range(5))
        self.skip, self.other = nn.Conv3d(8, 8, 1), nn.Conv3d(8, 4, 1)
        self.stride, self.less = (nn.Conv3d(8, n, 3, stride=2, padding=1) for n in (8, 16))
        self.up = nn.ConvTranspose3d(16, 8, 2, stride=2)
        self.bend = nn.PReLU(init=0.3)
        self.last = nn.ConvTranspose3d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = x + self.bend(self.a(x))
        x = torch.relu(self.b(x) + self.skip(x))
        x = self.skip(x) + self.c(x)
        x = self.bend(self.d(x) + self.e(x)) + x
        both = torch.cat([self.stride(x), torch.relu(self.other(self.stride(x)))], 1)
        both = self.up(self.less(x) + torch.cat([both, self.other(self.stride(x))], 1))
        both = self.a(both)
        return self.last((both + x) + torch.relu(both))


@pytest.mark.parametrize(("kind", "filtered"), [(Net, 3), (Sums, 6)])
def test_any_graph_computes_what_it_did(kind: type[Net] | type[Sums], filtered: int) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    net.norm.running_mean.normal_()  # type: ignore[union-attr]
    net.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    x, part = torch.randn(1, 1, 32, 34, 36), ((12, 20), (12, 21), (12, 24))
    made = Trimmed(net, filtered=True)
    assert made.filtered == filtered
    with torch.inference_mode():
        whole = net(x)[(..., *(slice(*span) for span in part))]
    torch.testing.assert_close(made(x, part), whole, rtol=0, atol=2e-5)
    torch.testing.assert_close(Trimmed(net)(x, part), whole, rtol=0, atol=2e-5)


def test_threads_change_no_bit() -> None:
    torch.manual_seed(0)
    net, x, part = Net().eval(), torch.randn(1, 1, 16, 17, 30), ((5, 11), (5, 12), (5, 25))
    made, before = Trimmed(net, filtered=True), torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(made(x, part))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(5, 30)] * 3),
    kernel=st.tuples(*[st.integers(1, 4)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    channels=st.integers(1, 2),
    outputs=st.sampled_from([8, 16, 24, 32]),
    slope=st.sampled_from([1.0, 0.0, 0.25]),
    bias=st.booleans(),
    threads=st.integers(1, 3),
)
def test_columns_are_the_convolution(
    size, kernel, stride, channels, outputs, slope, bias, threads
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(channels, outputs, kernel, stride=stride, bias=bias).requires_grad_(False)
    assert fits(conv)
    x = torch.randn(2, channels, *size)
    wanted = nn.functional.leaky_relu(conv(x), slope)
    made = Columns(conv, slope)(x.permute(0, 2, 3, 4, 1), threads).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(5, 30)] * 3),
    kernel=st.tuples(*[st.integers(1, 4)] * 3),
    channels=st.integers(1, 7),
    outputs=st.integers(1, 7),
    slope=st.sampled_from([1.0, 0.0, 0.25]),
    bias=st.booleans(),
    threads=st.integers(1, 3),
)
def test_planes_are_the_convolution(size, kernel, channels, outputs, slope, bias, threads) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(channels, outputs, kernel, bias=bias).requires_grad_(False)
    assert planar.fits(conv) == (max(kernel) > 1)
    x = torch.randn(2, channels, *size)
    wanted = nn.functional.leaky_relu(conv(x), slope)
    made = planar.Planar(conv, slope)(x, threads)
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 12)] * 3),
    kernel=st.tuples(*[st.integers(1, 5)] * 3),
    case=st.sampled_from(
        [(1, (2, 2, 2)), (3, (2, 2, 2)), (2, (1, 2, 2)), (5, (2, 1, 4)), (16, (2, 2, 2))]
    ),
    channels=st.integers(1, 10),
    bias=st.booleans(),
    slope=st.sampled_from([1.0, 0.0, 0.25]),
    threads=st.integers(1, 3),
)
def test_phases_are_the_transposed_convolution(
    size, kernel, case, channels, bias, slope, threads
) -> None:
    torch.manual_seed(0)
    outputs, stride = case
    conv = nn.ConvTranspose3d(channels, outputs, kernel, stride=stride, bias=bias)
    assert phases.fits(conv)
    x = torch.randn(2, channels, *size)
    with torch.inference_mode():
        wanted = nn.functional.leaky_relu(conv(x), slope)
    made = phases.Phases(conv, slope)(x.permute(0, 2, 3, 4, 1), threads).permute(0, 4, 1, 2, 3)
    # Where a kernel is shorter than its stride, some results are the bias alone.
    assert made.shape == wanted.shape
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("conv", [nn.Conv3d(8, 8, 3), nn.Conv3d(1, 12, 3), nn.Conv3d(1, 8, 7)])
def test_only_few_inputs_make_columns(conv: nn.Conv3d) -> None:
    assert not fits(conv)

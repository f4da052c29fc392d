"""Batch normalisation whose statistics are those of all ranks, and vanish at inference.

In training the mean and variance of a channel are taken over the samples of every rank, so N ranks
with batch b do what one rank with batch N*b does (Ioffe 2015, arXiv:1502.03167). At inference they
are frozen, and :func:`fold` writes them into the convolution before: what is left is a plain
convolution, a function of its receptive field alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# A ReLU of a standard normal number has this much less spread.
_RELU_GAIN = (0.5 * (1 - 1 / math.pi)) ** -0.5

Reduce = Callable[[Tensor], Tensor]  # sums a small tensor over the ranks


class _Shared(torch.autograd.Function):
    """Normalise by statistics summed over ranks; the gradient sums over ranks as well."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, reduce: Reduce
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [0, *range(2, x.ndim)]
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        # Joined in double: the difference of two large sums must not lose the variance.
        first = x.sum(axes).double()
        second = (x * x).sum(axes).double()
        total = reduce(torch.cat([first, second, count]))
        channels = x.shape[1]
        n = total[-1]
        mean = total[:channels] / n
        var = (total[channels:-1] / n - mean * mean).clamp_min(0)
        inverse = torch.rsqrt(var + eps)
        scale = (weight.double() * inverse).to(x.dtype)
        shift = (bias.double() - mean * weight.double() * inverse).to(x.dtype)
        y = torch.addcmul(_wide(shift, x), x, _wide(scale, x))
        ctx.save_for_backward(x, weight, mean.to(x.dtype), inverse.to(x.dtype), n)
        ctx.reduce = reduce
        ctx.mark_non_differentiable(mean, var, n)
        return y, mean, var, n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, weight, mean, inverse, n = ctx.saved_tensors
        axes = [0, *range(2, x.ndim)]
        local_dy = dy.sum(axes)
        local_dyx = ((dy * x).sum(axes) - mean * local_dy) * inverse
        total = ctx.reduce(torch.cat([local_dy, local_dyx]).double())
        channels = x.shape[1]
        mean_dy = (total[:channels] / n).to(x.dtype)
        mean_dyx = (total[channels:] / n).to(x.dtype)
        # dx = weight * inverse * (dy - mean(dy) - xhat * mean(dy xhat)), as one affine in dy and x.
        a = weight * inverse
        b = -a * inverse * mean_dyx
        c = -a * mean_dy - b * mean
        dx = torch.addcmul(_wide(c, x), dy, _wide(a, x))
        dx = dx.addcmul_(x, _wide(b, x))
        return dx, local_dyx, local_dy, None, None


def _wide(channel: Tensor, like: Tensor) -> Tensor:
    return channel.view(1, -1, *([1] * (like.ndim - 2)))


class BatchNorm(nn.BatchNorm3d):
    """``nn.BatchNorm3d`` whose training statistics are shared by ranks once :func:`share` ran."""

    reduce: Reduce | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (sample, channel, z, y, x)."""
        if not self.training or self.reduce is None:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        with torch.autocast(x.device.type, enabled=False):
            y, mean, var, n = _Shared.apply(
                x.to(self.weight.dtype), self.weight, self.bias, self.eps, self.reduce
            )
        with torch.no_grad():
            momentum = self.momentum or 0.1
            unbiased = var * (n / (n - 1).clamp_min(1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        return y


class StandardConv(nn.Conv3d):
    """Convolution whose weights are standardised: zero mean and unit spread for each output.

    Scaled weight standardisation (Brock 2021, arXiv:2101.08692): what batch normalisation does to
    features is done to the weights, so no statistic of any data is taken, nothing travels between
    ranks but gradients, and a sample's result depends on no other sample. :class:`nn.Conv3d` with
    the standardised weights is the same function.

    Args:
        start: the gain that each output starts with.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], start: float):
        super().__init__(inputs, outputs, kernel, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))
        self.gain = nn.Parameter(torch.full((outputs,), start))

    def standard(self) -> Tensor:
        """Return the weights that convolve."""
        axes = (1, 2, 3, 4)
        var, mean = torch.var_mean(self.weight, axes, correction=0, keepdim=True)
        scale = _RELU_GAIN * torch.rsqrt(var * self.weight[0].numel() + 1e-6)
        return (self.weight - mean) * scale * self.gain.view(-1, 1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (sample, channel, z, y, x)."""
        return self._conv_forward(x, self.standard(), self.bias)


def share(net: nn.Module, reduce: Reduce) -> None:
    """Let every :class:`BatchNorm` of ``net`` take its statistics over all ranks."""
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.reduce = reduce


def fold(net: nn.Module) -> nn.Module:
    """Leave plain convolutions alone, in place: the network that ``norm="none"`` builds.

    A frozen batch norm, which follows its convolution in an ``nn.Sequential``, goes into the
    convolution's weights and bias, and becomes an identity; standardised weights are written out.
    """
    for parent in list(net.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        for i, module in enumerate(parent):
            if isinstance(module, StandardConv):
                parent[i] = _plain(module)
        for i in range(len(parent) - 1):
            conv, norm = parent[i], parent[i + 1]
            if isinstance(conv, nn.Conv3d) and isinstance(norm, BatchNorm):
                assert norm.running_mean is not None and norm.running_var is not None
                weight, bias = fuse_conv_bn_weights(
                    conv.weight,
                    conv.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
                parent[i + 1] = nn.Identity()
    return net


def _plain(conv: StandardConv) -> nn.Conv3d:
    plain = nn.Conv3d(
        conv.in_channels, conv.out_channels, conv.weight.shape[2:], padding=conv.padding
    )
    plain.weight = nn.Parameter(conv.standard().detach())
    plain.bias = conv.bias
    return plain.train(conv.training)


def start(net: nn.Module) -> None:
    """He initialisation (doi:10.1109/ICCV.2015.123) of the convolutions; biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

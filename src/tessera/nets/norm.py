"""Batch normalisation whose statistics are those of all ranks, and vanish at inference.

In training the mean and variance of a channel are taken over the samples of every rank, so N ranks
with batch b do what one rank with batch N*b does (Ioffe 2015, arXiv:1502.03167). At inference they
are frozen, and :func:`fold` writes them into the convolution before: what is left is a plain
convolution, a function of its receptive field alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

Reduce = Callable[[Tensor], Tensor]  # sums a small tensor over the ranks


class _Shared(torch.autograd.Function):
    """Normalise by statistics summed over ranks; the gradient sums over ranks as well."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, reduce: Reduce
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        # Joined in double: the difference of two large sums must not lose the variance.
        own_mean, own_var = (a.double() for a in _statistics(x))
        first, second = count * own_mean, count * (own_var + own_mean * own_mean)
        total = reduce(torch.cat([first, second, count]))
        channels = x.shape[1]
        n = total[-1]
        mean = total[:channels] / n
        var = (total[channels:-1] / n - mean * mean).clamp_min(0)
        inverse = torch.rsqrt(var + eps)
        scale = (weight.double() * inverse).to(x.dtype)
        shift = (bias.double() - mean * weight.double() * inverse).to(x.dtype)
        y = torch.addcmul(_wide(shift, x), x, _wide(scale, x))
        ctx.save_for_backward(x, weight, mean.to(x.dtype), var.to(x.dtype), inverse.to(x.dtype), n)
        ctx.reduce, ctx.eps = reduce, eps
        ctx.mark_non_differentiable(mean, var, n)
        return y, mean, var, n

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dy = grads[0]
        x, weight, mean, var, inverse, n = ctx.saved_tensors
        # Of a norm with frozen statistics the gradients of weight and bias are these two sums; in
        # one pass, and without a tensor of their products.
        _, local_dyx, local_dy = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
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


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over this rank's samples."""
    if x.device.type == "cpu":  # in the order of memory, which var_mean does not follow
        mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    else:
        var, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    return mean, var


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


def share(net: nn.Module, reduce: Reduce) -> None:
    """Let every :class:`BatchNorm` of ``net`` take its statistics over all ranks."""
    for module in net.modules():
        if isinstance(module, BatchNorm):
            module.reduce = reduce


def fold(net: nn.Module) -> nn.Module:
    """Write frozen batch norms into the convolutions before them, in place.

    A norm follows its convolution in an ``nn.Sequential``; afterwards it is an identity and the
    convolution has a bias: the network that ``norm="none"`` builds.
    """
    for parent in net.modules():
        if not isinstance(parent, nn.Sequential):
            continue
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


def start(net: nn.Module) -> None:
    """He initialisation (doi:10.1109/ICCV.2015.123) of the convolutions; biases zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

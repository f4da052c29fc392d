"""The convolution of this package's networks: torch's, computed otherwise where that is faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_LANES = 8  # channels that minimal filtering takes at once: vectors.LEAST, without importing numba


class Conv3d(nn.Conv3d):
    """``nn.Conv3d``; in fp32 on a CPU it learns its 3 x 3 x 3 kernels by minimal filtering.

    And 1 x 1 x 1 is a product of matrices, which torch's own convolution does not see. Weights are
    those of ``nn.Conv3d``.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self._is_plain(input):
            return super()._conv_forward(input, weight, bias)
        if (self.kernel_size, self.padding) == ((1, 1, 1), (0, 0, 0)):
            made = linear(input.permute(0, 2, 3, 4, 1), weight.flatten(1), bias)
            return made.permute(0, 4, 1, 2, 3)
        if not (torch.is_grad_enabled() and self._fits()):
            return super()._conv_forward(input, weight, bias)
        from tessera.nets.winograd_gradient import Convolution

        out: Tensor = Convolution.apply(input, weight)
        return out if bias is None else out + bias.view(-1, 1, 1, 1)

    def _is_plain(self, x: Tensor) -> bool:
        """True in fp32 on a CPU, where every voxel is met, once."""
        return (
            x.device.type == "cpu"
            and x.dim() == 5
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and (self.stride, self.dilation, self.groups) == ((1, 1, 1), (1, 1, 1), 1)
        )

    def _fits(self) -> bool:
        return (
            (self.kernel_size, self.padding) == ((3, 3, 3), (1, 1, 1))
            and self.padding_mode == "zeros"
            and self.in_channels % _LANES == self.out_channels % _LANES == 0
        )

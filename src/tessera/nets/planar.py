"""Convolutions from few channels to few in fp32 on a CPU, such as one that smooths classes.

Where channels fill no vector, voxels do: maps are planar, (channel, z, y, x), and a vector holds
neighbours along x. Each row of results is summed over the rows that it depends on, while it is in
the cache.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tessera.compute.threads import share_rows
from tessera.nets import vectors
from tessera.nets.winograd import empty


def fits(conv: nn.Conv3d) -> bool:
    """True if a convolution has few inputs and few outputs, and moves voxel by voxel."""
    return (
        max(conv.in_channels, conv.out_channels) < vectors.LEAST
        and max(conv.kernel_size) > 1
        and (*conv.stride, *conv.dilation, conv.groups) == (1,) * 7
    )


class Planar:
    """A convolution without padding, and what bends its result.

    Args:
        conv: that fits.
        slope: of negative results: 0 is a ReLU, 1 nothing.
    """

    def __init__(self, conv: nn.Conv3d, slope: float = 1.0) -> None:
        self._kernel = conv.weight.detach().float().contiguous().numpy()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self._bias, self._slope = bias.numpy().astype(np.float32), slope

    def __call__(self, given: Tensor, threads: int = 1) -> Tensor:
        """Map (sample, channel, z, y, x), float32, to the same, contiguous."""
        outputs, _, *size = self._kernel.shape
        made = [n - k + 1 for n, k in zip(given.shape[2:], size, strict=True)]
        out = empty((len(given), outputs, *made))
        source = given.detach().float().contiguous().numpy()

        def work(span: tuple[int, int]) -> None:
            _convolve(source, self._kernel, self._bias, self._slope, out.numpy(), span)

        share_rows(work, len(given) * made[0] * made[1], threads)
        return out


@vectors.jit
def _convolve(
    source: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    slope: float,
    out: np.ndarray,
    span: tuple[int, int],
) -> None:
    """Compute rows ``span`` of all results."""
    planes, rows, width = out.shape[2], out.shape[3], out.shape[4]
    outputs, inputs, depth, height, taps = kernel.shape
    zero, below = np.float32(0), np.float32(slope)
    for number in range(span[0], span[1]):
        sample, rest = number // (planes * rows), number % (planes * rows)
        z, y = rest // rows, rest % rows
        for o in range(outputs):
            out[sample, o, z, y] = bias[o]
        for c in range(inputs):
            for k in range(depth):
                for j in range(height):
                    row = source[sample, c, z + k, y + j]
                    for o in range(outputs):
                        line, weights = out[sample, o, z, y], kernel[o, c, k, j]
                        if taps == 3:  # the usual ones together: sums are read and written once
                            a, b, d = weights[0], weights[1], weights[2]
                            middle, right = row[1 : width + 1], row[2 : width + 2]
                            for x in range(width):
                                line[x] += a * row[x] + b * middle[x] + d * right[x]
                        else:
                            for i in range(taps):
                                weight, part = weights[i], row[i : i + width]
                                for x in range(width):
                                    line[x] += weight * part[x]
        if slope != 1:
            for o in range(outputs):
                line = out[sample, o, z, y]
                for x in range(width):
                    line[x] = below * line[x] if line[x] < zero else line[x]

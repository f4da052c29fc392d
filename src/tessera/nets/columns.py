"""Convolutions of few input channels in fp32 on a CPU, such as a network's first.

What a row of results depends on is laid out as columns, one row for each tap of the kernel, and
multiplied by the kernels with all sums in registers. Libraries are made for many input channels:
of one channel they leave most of a vector empty.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tessera.compute.threads import share_rows
from tessera.nets import vectors
from tessera.nets.winograd import empty

_MOST = 128  # taps times inputs: columns of a row stay in the cache


def fits(conv: nn.Conv3d) -> bool:
    """True if a convolution has few inputs, and outputs that fill whole vectors."""
    return (
        conv.weight[0].numel() <= _MOST
        and conv.in_channels < vectors.LEAST
        and conv.out_channels % vectors.LEAST == 0
        and (*conv.dilation, conv.groups) == (1,) * 4
    )


class Columns:
    """A convolution without padding, and what bends its result.

    Args:
        conv: that fits.
        slope: of negative results: 0 is a ReLU, 1 nothing.
    """

    def __init__(self, conv: nn.Conv3d, slope: float = 1.0) -> None:
        outputs = conv.out_channels
        lanes = vectors.part(outputs)
        taps = conv.weight.detach().permute(0, 2, 3, 4, 1).reshape(outputs // lanes, lanes, -1)
        self._kernel = taps.permute(0, 2, 1).contiguous().numpy()
        bias = torch.zeros(outputs) if conv.bias is None else conv.bias.detach()
        self._bias = bias.numpy().astype(np.float32)
        z, y, x = conv.kernel_size
        dz, dy, dx = conv.stride
        self._size, self._stride, self._slope = (z, y, x), (dz, dy, dx), slope

    def __call__(self, given: Tensor, threads: int = 1) -> Tensor:
        """Map (sample, z, y, x, channels), float32, to (sample, z, y, x, outputs), contiguous."""
        samples, *voxels, channels = given.shape
        outputs = len(self._bias)
        made = [(n - k) // s + 1 for n, k, s in zip(voxels, self._size, self._stride, strict=True)]
        out = empty((samples, *made, outputs))
        source = given.detach().float().contiguous().numpy().reshape(*given.shape[:3], -1)
        bias = np.tile(self._bias, made[2])
        places = vectors.whole(made[2], outputs)

        def work(span: tuple[int, int]) -> None:
            columns = np.zeros((self._kernel.shape[1], places), np.float32)
            products = np.empty((places, outputs), np.float32)
            _convolve(
                source, channels, self._size, self._stride, self._kernel, bias, self._slope,
                out.numpy().reshape(*out.shape[:3], -1), span, columns, products,
            )  # fmt: skip

        share_rows(work, samples * made[0] * made[1], threads)
        return out


@vectors.jit
def _convolve(
    source: np.ndarray,
    channels: int,
    size: tuple[int, int, int],
    stride: tuple[int, int, int],
    kernel: np.ndarray,
    bias: np.ndarray,
    slope: float,
    out: np.ndarray,
    span: tuple[int, int],
    columns: np.ndarray,
    products: np.ndarray,
) -> None:
    """Convolve rows ``span`` of all results; ``columns`` and ``products`` are scratch."""
    planes, lines = out.shape[1], out.shape[2]
    places, outputs = products.shape
    length = out.shape[3]
    width = length // outputs
    flat = products.reshape(-1)
    zero, below = np.float32(0), np.float32(slope)
    for number in range(span[0], span[1]):
        sample, rest = number // (planes * lines), number % (planes * lines)
        z, y = rest // lines, rest % lines
        tap = 0
        for k in range(size[0]):
            for j in range(size[1]):
                row = source[sample, z * stride[0] + k, y * stride[1] + j]
                for i in range(size[2]):
                    for c in range(channels):
                        column = columns[tap]
                        values, step = row[i * channels + c :], stride[2] * channels
                        if step == 1:  # steps that the compiler knows make vectors
                            for x in range(width):
                                column[x] = values[x]
                        elif step == 2:
                            for x in range(width):
                                column[x] = values[2 * x]
                        else:
                            for x in range(width):
                                column[x] = values[x * step]
                        tap += 1
        vectors.multiply(
            columns.ctypes.data, 4, 4 * places, kernel, width, products.ctypes.data, outputs
        )
        target = out[sample, z, y]
        for i in range(length):
            value = flat[i] + bias[i]
            target[i] = below * value if value < zero else value

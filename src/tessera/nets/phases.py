"""Transposed convolutions in fp32 on a CPU, such as those that double the resolution.

A result at s q + r (stride s, phase r) depends on the inputs q, q - 1, ... alone: the phases are
the outputs of one convolution over the inputs (Shi 2016, doi:10.1109/CVPR.2016.207)::

    inputs    q - 1      q
    results   ... 2q - 1 | 2q, 2q + 1 | ...      of (z, y, x) phases: 8 times the channels

So of three channels with a stride of 2 there are 24, which fill whole vectors. Of a kernel of 3 the
input before, q - 1, takes part in even results alone: vectors of phases that an input has no part
in are left out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tessera.compute.threads import share_rows
from tessera.nets import vectors
from tessera.nets.winograd import empty

_MOST = 16  # outputs: libraries do well with more


def fits(conv: nn.ConvTranspose3d) -> bool:
    """True if a layer has few outputs, and phases of them that fill whole vectors."""
    phases = int(np.prod(conv.stride))
    return (
        conv.out_channels <= _MOST
        and conv.out_channels * phases % vectors.LEAST == 0
        and (*conv.dilation, conv.groups) == (1,) * 4
    )


class Phases:
    """A transposed convolution without padding, and what bends its result.

    Args:
        conv: that fits.
        slope: of negative results: 0 is a ReLU, 1 nothing.
    """

    def __init__(self, conv: nn.ConvTranspose3d, slope: float = 1.0) -> None:
        z, y, x = conv.stride
        self._stride, self._slope = (z, y, x), slope
        self._size = conv.kernel_size
        a, b, c = (-(-k // s) for k, s in zip(conv.kernel_size, conv.stride, strict=True))
        self._taps = a, b, c
        inputs, outputs = conv.weight.shape[:2]
        taps = torch.zeros(inputs, outputs, a * z, b * y, c * x)
        taps[:, :, : self._size[0], : self._size[1], : self._size[2]] = conv.weight.detach()
        # Tap t of a kernel is phase t mod s, of the input t // s before; the farthest comes first.
        parted = taps.view(inputs, outputs, a, z, b, y, c, x).flip(2, 4, 6)
        parted = parted.permute(2, 4, 6, 0, 3, 5, 7, 1)  # taps, inputs; phases, outputs
        count = outputs * z * y * x
        # Parts as wide as a row of phases or less, so that they are left out one by one.
        row = x * outputs
        self._lanes = vectors.part(row) if row % vectors.LEAST == 0 else vectors.LEAST
        kernel = parted.reshape(a * b, c * inputs, -1, self._lanes).permute(0, 2, 1, 3)
        self._kernel = kernel.contiguous().numpy()
        self._used = np.any(self._kernel, axis=(2, 3))
        bias = torch.zeros(outputs) if conv.bias is None else conv.bias.detach()
        self._bias = np.tile(bias.numpy().astype(np.float32), count // outputs)

    def __call__(self, given: Tensor, threads: int = 1) -> Tensor:
        """Map (sample, z, y, x, channels), float32, to (sample, z, y, x, outputs).

        Outputs that fill no vector are planar: each has its voxels side by side in memory.
        """
        samples, *voxels, channels = given.shape
        outputs = len(self._bias) // int(np.prod(self._stride))
        made = [(n - 1) * s + k for n, s, k in zip(voxels, self._stride, self._size, strict=True)]
        if outputs < vectors.LEAST:
            out = empty((samples, outputs, *made)).permute(0, 2, 3, 4, 1)
        else:
            out = empty((samples, *made, outputs))
        source = given.detach().float().contiguous().numpy().reshape(*given.shape[:3], -1)
        lines = [n + t - 1 for n, t in zip(voxels, self._taps, strict=True)]
        places = vectors.whole(lines[2], self._lanes)

        def work(span: tuple[int, int]) -> None:
            line = np.zeros((places + self._taps[2] - 1) * channels, np.float32)
            total = np.empty((places, len(self._bias)), np.float32)
            _convolve(
                source, channels, self._taps, self._stride, self._kernel, self._used, self._bias,
                self._slope, out.numpy(), span, line, total,
            )  # fmt: skip

        share_rows(work, samples * lines[0] * lines[1], threads)
        return out


@vectors.jit
def _convolve(
    source: np.ndarray,
    channels: int,
    taps: tuple[int, int, int],
    stride: tuple[int, int, int],
    kernel: np.ndarray,
    used: np.ndarray,
    bias: np.ndarray,
    slope: float,
    out: np.ndarray,
    span: tuple[int, int],
    line: np.ndarray,
    total: np.ndarray,
) -> None:
    """Compute rows ``span`` of phases; ``line`` (zero) and ``total`` are scratch."""
    planes, rows = source.shape[1] + taps[0] - 1, source.shape[2] + taps[1] - 1
    length = source.shape[3]
    width = length // channels + taps[2] - 1
    before = (taps[2] - 1) * channels
    count, outputs = bias.shape[0], out.shape[4]
    parts, lanes = kernel.shape[1], kernel.shape[3]
    zero, below = np.float32(0), np.float32(slope)
    for number in range(span[0], span[1]):
        sample, rest = number // (planes * rows), number % (planes * rows)
        z, y = rest // rows, rest % rows
        total[:] = bias
        for k in range(taps[0]):
            for j in range(taps[1]):
                at_z, at_y = z + k - taps[0] + 1, y + j - taps[1] + 1
                if not (0 <= at_z < source.shape[1] and 0 <= at_y < source.shape[2]):
                    continue
                line[before : before + length] = source[sample, at_z, at_y]
                at = k * taps[1] + j
                for part in range(parts):
                    if not used[at, part]:
                        continue
                    vectors.multiply(
                        line.ctypes.data, 4 * channels, 4, kernel[at, part : part + 1], width,
                        total.ctypes.data + 4 * part * lanes, count, True,
                    )  # fmt: skip
        for p in range(stride[0]):
            for q in range(stride[1]):
                at_z, at_y = z * stride[0] + p, y * stride[1] + q
                if at_z >= out.shape[1] or at_y >= out.shape[2]:
                    continue
                first = (p * stride[1] + q) * stride[2] * outputs
                for r in range(stride[2]):
                    made = total[:, first + r * outputs : first + (r + 1) * outputs]
                    target = out[sample, at_z, at_y, r :: stride[2]]
                    for x in range(target.shape[0]):
                        for o in range(outputs):
                            value = made[x, o]
                            target[x, o] = below * value if value < zero else value

"""A convolution that learns, by minimal filtering: forward, and both of its gradients.

As in :mod:`tessera.nets.winograd`, whose B, G and A these are. Of a tile, with d its 5 x 5 x 5
inputs, w the kernel and y the gradient of its 3 x 3 x 3 results::

    forward             A' [ (G w) . (B d) ]       a product over the input's channels
    gradient of inputs  forward of y, with the kernel turned about
    gradient of weights G' [ (B d) . (A' y) ]      a product over all tiles

each along z, y and x. The gradient of the weights is summed in parts that follow the map alone, and
the parts in order, so it is the same for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from tessera.compute.threads import share
from tessera.nets import winograd_code as code
from tessera.nets.vectors import LANES, LEAST, Sums, combination, fixed, jit, vector_at
from tessera.nets.winograd import CUBE, convolve, transform
from tessera.nets.winograd_code import take

_PARTS = 8  # of a map, at most, each with a sum of its own
_PLACES = 96  # tiles of a patch, about


class Convolution(torch.autograd.Function):
    """Convolution (sample, inputs, z, y, x) with (outputs, inputs, 3, 3, 3), and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Keep the size, as zeros stand around the map."""
        ctx.save_for_backward(x, weight)
        return _apply(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the map and of the weights, where they are wanted."""
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _apply(grads[0], weight.transpose(0, 1).flip(2, 3, 4))
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(x, grads[0], torch.get_num_threads())
        return of_x, of_weight


def _apply(x: Tensor, weight: Tensor) -> Tensor:
    made = convolve(x.permute(0, 2, 3, 4, 1), transform(weight), None, torch.get_num_threads())
    return made.permute(0, 4, 1, 2, 3)


def weight_gradient(x: Tensor, grad: Tensor, threads: int = 1) -> Tensor:
    """Return the gradient of the weights, (outputs, inputs, 3, 3, 3).

    Args:
        x: the layer's input, (sample, inputs, z, y, x) float32.
        grad: the gradient of its output, (sample, outputs, z, y, x).
        threads: that share the parts.
    """
    given, wanted = (t.detach().permute(0, 2, 3, 4, 1).contiguous() for t in (x, grad))
    samples, *size, inputs = given.shape
    outputs = wanted.shape[4]
    tiles = [-(-n // 3) for n in size]
    rows = max(1, _PLACES // tiles[2])  # of tiles, in a patch
    patches = samples * -(-tiles[0] * tiles[1] // rows)
    ends = np.linspace(0, patches, min(_PARTS, patches) + 1).astype(int).tolist()
    parts = np.zeros((len(ends) - 1, 125, inputs, outputs), np.float32)

    def work(part: int) -> None:
        most = (3 * tiles[2] + 2) * max(inputs, outputs)
        _weigh(
            given.numpy(), wanted.numpy(), rows, (ends[part], ends[part + 1]), parts[part],
            np.empty((125, rows * tiles[2], inputs), np.float32),
            np.empty((125, rows * tiles[2], outputs), np.float32),
            np.empty((25, most), np.float32), np.empty((9, most), np.float32),
            np.zeros(most, np.float32),
        )  # fmt: skip

    share(work, range(len(parts)), threads)
    total = torch.from_numpy(parts.sum(axis=0, dtype=np.float64))
    taps = (CUBE.T @ total.view(125, -1)).float().view(3, 3, 3, inputs, outputs)
    return taps.permute(4, 3, 0, 1, 2).contiguous()


@intrinsic(prefer_literal=True)
def _outer(
    typing: Any, a: Any, b: Any, out: Any, places: Any, inputs: Any, outputs: Any, wide: Any,
    high: Any, lanes: Any,
) -> Any:  # fmt: skip
    """Add the product of (places, ``high`` inputs) and (places, ``wide`` vectors of ``lanes``).

    The first three are addresses, of rows of ``inputs``, ``outputs`` and ``outputs`` values; the
    sums stay in registers.
    """
    width, height, long = (int(one.literal_value) for one in (wide, high, lanes))

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        products = Sums(builder, long)
        a, b, out, places, inputs, outputs = args[:6]

        def vectors(address: Any) -> list[Any]:
            return [
                vector_at(builder, builder.add(address, fixed(4 * long * o)), long)
                for o in range(width)
            ]

        targets = [
            vectors(builder.add(out, builder.mul(outputs, fixed(4 * i)))) for i in range(height)
        ]
        sums = [
            [cgutils.alloca_once_value(builder, builder.load(at, align=4)) for at in row]
            for row in targets
        ]
        with cgutils.for_range(builder, places) as loop:
            four = builder.mul(loop.index, fixed(4))
            line = builder.add(b, builder.mul(four, outputs))
            row = [builder.load(at, align=4) for at in vectors(line)]
            begin = builder.add(a, builder.mul(four, inputs))
            for i in range(height):
                products.add(builder.add(begin, fixed(4 * i)), row, sums[i])
        for row, totals in zip(targets, sums, strict=True):
            for at, total in zip(row, totals, strict=True):
                builder.store(builder.load(total), at, align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(size, size, size, size, size, size, wide, high, lanes), code


_back = combination(np.pad(code.GATHER.T, ((0, 0), (0, 2))))  # A', 3 to 5


@jit
def _take_back(
    given: np.ndarray,
    corner: tuple[int, int, int, int],
    tiles: int,
    values: np.ndarray,
    place: int,
    planes: np.ndarray,
    lines: np.ndarray,
    nothing: np.ndarray,
) -> None:
    """Apply A' along z, y and x to a row of tiles of (sample, z, y, x, channels).

    ``corner`` is the sample and the first voxel; what lies outside of the map is zero.
    """
    sample, z, y, x = corner
    _, high, long, wide, channels = given.shape
    voxel = 4 * channels
    width, length = 3 * tiles * channels, min(3 * tiles, wide - x) * channels
    zeros, planes_at, lines_at = nothing.ctypes.data, planes.ctypes.data, lines.ctypes.data
    part, plane = 4 * width, 4 * 5 * width
    flat = planes.reshape(-1)
    for j in range(3):
        for k in range(5):
            begin = (5 * k + j) * width
            flat[begin + (length if y + j < long else 0) : begin + width] = 0
        if y + j >= long:
            continue
        a = given.ctypes.data + (((sample * high + z) * long + y + j) * wide + x) * voxel
        b = a + long * wide * voxel if z + 1 < high else zeros
        c = a + 2 * long * wide * voxel if z + 2 < high else zeros
        _back(a, b, c, zeros, zeros, planes_at + j * part, plane, length)
    row = 4 * values.shape[2]
    step = values.shape[1] * row
    for k in range(5):
        a = planes_at + k * plane
        _back(a, a + part, a + 2 * part, zeros, zeros, lines_at, part, width)
        for j in range(5):
            a = lines_at + j * part
            target = values.ctypes.data + (5 * k + j) * 5 * step + place * row
            for _ in range(tiles):
                _back(a, a + voxel, a + 2 * voxel, zeros, zeros, target, step, channels)
                a += 3 * voxel
                target += row


@jit
def _multiply(values: np.ndarray, moments: np.ndarray, used: int, total: np.ndarray) -> None:
    """Add (125, inputs, places) times (125, places, outputs) to (125, inputs, outputs)."""
    places, inputs, outputs = values.shape[1], values.shape[2], moments.shape[2]
    for at in range(125):
        o = 0
        while o < outputs:
            left = outputs - o
            i = 0
            while i < inputs:
                a = values.ctypes.data + 4 * (at * places * inputs + i)
                b = moments.ctypes.data + 4 * (at * places * outputs + o)
                out = total.ctypes.data + 4 * ((at * inputs + i) * outputs + o)
                if left >= 2 * LANES and inputs - i >= 6:
                    _outer(a, b, out, used, inputs, outputs, 2, 6, LANES)  # type: ignore[call-arg]
                    i += 6
                elif left >= 2 * LANES:
                    _outer(a, b, out, used, inputs, outputs, 2, 2, LANES)  # type: ignore[call-arg]
                    i += 2
                elif left >= LANES:
                    _outer(a, b, out, used, inputs, outputs, 1, 8, LANES)  # type: ignore[call-arg]
                    i += 8
                else:
                    _outer(a, b, out, used, inputs, outputs, 1, 8, LEAST)  # type: ignore[call-arg]
                    i += 8
            o += min(left, 2 * LANES if left >= 2 * LANES else LANES)


@jit
def _weigh(
    given: np.ndarray,
    wanted: np.ndarray,
    rows: int,
    span: tuple[int, int],
    total: np.ndarray,
    values: np.ndarray,
    moments: np.ndarray,
    planes: np.ndarray,
    lines: np.ndarray,
    nothing: np.ndarray,
) -> None:
    """Add what patches ``span`` say of the weights to ``total``, (125, inputs, outputs).

    Args:
        given: (sample, z, y, x, inputs); ``wanted``: (sample, z, y, x, outputs).
        rows: of tiles, in a patch.
        values, moments, planes, lines, nothing: scratch, the last all zero.
    """
    _, high, long, wide, inputs = given.shape
    tiles_z, tiles_y, tiles = (high + 2) // 3, (long + 2) // 3, (wide + 2) // 3
    groups = (tiles_z * tiles_y + rows - 1) // rows
    source = np.empty(4, np.int64)
    source[1:] = 4 * long * wide * inputs, 4 * wide * inputs, inputs
    for number in range(span[0], span[1]):
        sample, group = number // groups, number % groups
        source[0] = given.ctypes.data + sample * high * source[1]
        first, last = group * rows, min((group + 1) * rows, tiles_z * tiles_y)
        for row in range(first, last):
            z, y, place = 3 * (row // tiles_y), 3 * (row % tiles_y), (row - first) * tiles
            take(
                source, (high, long, wide), (z - 1, y - 1, -1), tiles, False, values, place, 0,
                planes, lines, nothing,
            )  # fmt: skip
            _take_back(wanted, (sample, z, y, 0), tiles, moments, place, planes, lines, nothing)
        _multiply(values, moments, (last - first) * tiles, total)

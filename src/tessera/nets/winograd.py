"""A flood-filling network in fp32 on a CPU, by minimal filtering: a sixth of the multiplications.

Convolutions of 3 x 3 x 3 are all that such a network computes. Of each tile of 3 x 3 x 3 results
along each axis (Winograd's F(3, 3); Lavin 2016, doi:10.1109/CVPR.2016.435)::

    5 inputs  --B-->  5 values,  times the 5 values of the kernel (G),  --A-->  3 results

so 125 products take the place of 729. They are matrix products over the channels, 125 small ones
a layer, and all else are sums. Rows of tiles go from end to end a few at a time, so what lies
between stays in the cache.

The results differ from those of plain convolutions by rounding alone (about 2e-5 of a logit after
24 layers). They are the same for any number of threads: a row of tiles is computed by one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from tessera.nets.ffn import FFN

_LANES = 8  # of a vector: 256 bits; wider machines join two
_SUMS = 12  # vectors of sums that are kept in registers, of 16
_ROWS = 12  # of tiles, multiplied together: kernels come from memory less often
KERNEL = np.array(  # G: from 3 taps to 5 values, for the points 0, 1, -1, 2 and infinity
    [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3],
     [0, 0, 1]]
)  # fmt: skip


def fits(net: FFN) -> bool:
    """True if the network's features fill whole vectors."""
    features = net.last.in_channels
    return features % _LANES == 0


class Winograd:
    """A network made ready; call it as the network itself.

    Args:
        net: fp32, on the CPU; see :func:`fits`.
        threads: that share the rows of tiles.
    """

    def __init__(self, net: FFN, threads: int = 1) -> None:
        self._features = net.last.in_channels
        self._first = net.first_a
        layers = [net.first_b]
        for block in net.blocks:
            layers += [block.a, block.b]  # type: ignore[list-item]
        self._kernels = [_transformed(layer.weight) for layer in layers]
        self._biases = [np.tile(_numpy(layer.bias), net.fov[2]) for layer in layers]
        self._last = _numpy(net.last.weight).reshape(-1), float(_numpy(net.last.bias)[0])
        self._fov = net.fov
        tiles = [-(-n // 3) for n in net.fov]
        self._rows = tiles[0] * tiles[1]
        # A border of zeros, and of more zeros where the last tile stands over.
        padded = (3 * tiles[0] + 2, 3 * tiles[1] + 2, (3 * tiles[2] + 2) * self._features)
        self._maps = [np.zeros(padded, np.float32) for _ in range(2)]
        self._threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._scratch = [_Scratch(tiles[2], self._features) for _ in range(self._threads)]

    def __call__(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (sample, 2, z, y, x), image and seed, to (sample, 1, z, y, x), the update added."""
        return torch.stack([self._one(field[None]) for field in fields])

    def _one(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (1, 2, z, y, x) to (1, z, y, x)."""
        x, y = self._maps
        z_, y_, x_ = self._fov
        first = self._first(fields).permute(0, 2, 3, 4, 1)[0]
        x[1 : z_ + 1, 1 : y_ + 1, self._features : (x_ + 1) * self._features] = (
            first.contiguous().numpy().reshape(z_, y_, -1)
        )
        self._layer(0, x, y, False)
        x, y = y, x
        for number in range(1, len(self._kernels), 2):
            self._layer(number, x, y, False)
            self._layer(number + 1, y, x, True)
        out = np.empty(self._fov, np.float32)
        _finish(x, *self._last, self._features, fields[0, 1].contiguous().numpy(), out)
        return torch.from_numpy(out)[None]

    def _layer(self, number: int, given: np.ndarray, out: np.ndarray, add: bool) -> None:
        work = _convolution(self._features)
        ends = np.linspace(0, self._rows, self._threads + 1).astype(int).tolist()
        jobs = [
            (given, self._kernels[number], self._biases[number], out, self._fov, add, a, b, *s.all)
            for a, b, s in zip(ends, ends[1:], self._scratch, strict=False)
        ]
        if self._pool is None:
            work(*jobs[0])
        else:
            for done in [self._pool.submit(work, *job) for job in jobs]:
                done.result()


class _Scratch:
    """What one thread keeps between the steps of a row of ``tiles`` tiles."""

    def __init__(self, tiles: int, features: int) -> None:
        width, group = (3 * tiles + 2) * features, _SUMS // _wide(features)
        places = -(-_ROWS * tiles // group) * group  # the last group may stand over
        values = np.zeros((125, places, features), np.float32)
        self.all = (
            np.zeros((5, 5, width), np.float32),
            np.zeros((5, width), np.float32),
            values,
            np.zeros_like(values),
        )


def _numpy(given: torch.Tensor | None) -> np.ndarray:
    assert given is not None
    return np.asarray(given.detach().float().contiguous().numpy())


def _transformed(weight: torch.Tensor) -> np.ndarray:
    """Turn kernels (out, in, 3, 3, 3) into float32 (125, in, out)."""
    kernels = weight.detach().double().numpy()
    values = np.einsum("oizyx,az,by,cx->abcio", kernels, KERNEL, KERNEL, KERNEL, optimize=True)
    return np.ascontiguousarray(values.reshape(125, *values.shape[3:]), np.float32)


# --- compiled -------------------------------------------------------------------------------------

_jit = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})


def _wide(features: int) -> int:
    """Vectors of outputs that are summed together."""
    return 2 if features % (2 * _LANES) == 0 else 1


@intrinsic(prefer_literal=True)
def _multiply(typing: Any, values: Any, kernel: Any, out: Any, features: Any) -> Any:
    """Multiply (places, features) by (features, features) in registers; arguments are addresses.

    As many places at once as leave their sums in registers; the compiler does not find this order
    by itself, and it is twice as fast.
    """
    count = int(features.literal_value)
    wide = _wide(count)
    places = _SUMS // wide

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = ir.FloatType()
        vector = ir.VectorType(real, _LANES)
        fused = get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fmuladd.v{_LANES}f32",
        )
        a, w, m = (builder.inttoptr(v, real.as_pointer()) for v in args[:3])
        empty = ir.Constant(vector, ir.Undefined)
        lane = ir.Constant(ir.IntType(32), 0)
        first_lanes = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)

        def at(base: Any, index: int) -> Any:
            return builder.gep(base, [ir.Constant(ir.IntType(64), index)])

        def vector_at(base: Any, index: int) -> Any:
            return builder.bitcast(at(base, index), vector.as_pointer())

        for begin in range(0, count, wide * _LANES):
            outputs = range(begin, begin + wide * _LANES, _LANES)
            sums = [[ir.Constant(vector, [0.0] * _LANES)] * wide for _ in range(places)]
            for c in range(count):
                row = [builder.load(vector_at(w, c * count + o), align=4) for o in outputs]
                for p in range(places):
                    one = builder.insert_element(empty, builder.load(at(a, p * count + c)), lane)
                    one = builder.shuffle_vector(one, empty, first_lanes)
                    sums[p] = [
                        builder.call(fused, [one, k, s]) for k, s in zip(row, sums[p], strict=True)
                    ]
            for p in range(places):
                for o, value in zip(outputs, sums[p], strict=True):
                    builder.store(value, vector_at(m, p * count + o), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, features), code


@cache
def _convolution(features: int) -> Callable[..., None]:
    """Return the convolution of ``features`` to ``features`` channels, compiled once."""
    group = _SUMS // _wide(features)

    @_jit
    def convolve(
        given: np.ndarray,
        kernel: np.ndarray,
        bias: np.ndarray,
        out: np.ndarray,
        fov: tuple[int, int, int],
        add: bool,
        first: int,
        last: int,
        planes: np.ndarray,
        lines: np.ndarray,
        values: np.ndarray,
        products: np.ndarray,
    ) -> None:
        """Rows first .. last of tiles: relu, convolve, add the bias and, if asked, what is there.

        ``given`` and ``out`` are (z, y, x channels) with a border of zeros; ``kernel`` is (125,
        in, out); the last four are scratch.
        """
        tiles_y, tiles_x = (fov[1] + 2) // 3, (fov[2] + 2) // 3
        places = values.shape[1]
        for begin in range(first, last, _ROWS):
            end = min(begin + _ROWS, last)
            for row in range(begin, end):
                z, y = 3 * (row // tiles_y), 3 * (row % tiles_y)
                place = (row - begin) * tiles_x
                _take(given, z, y, tiles_x, place, features, planes, lines, values)
            for at in range(125):
                for place in range(0, (end - begin) * tiles_x, group):
                    offset = 4 * (at * places + place) * features
                    _multiply(  # type: ignore[call-arg]
                        values.ctypes.data + offset,
                        kernel.ctypes.data + 4 * at * features * features,
                        products.ctypes.data + offset,
                        features,
                    )
            for row in range(begin, end):
                z, y = 3 * (row // tiles_y), 3 * (row % tiles_y)
                place = (row - begin) * tiles_x
                _give(products, place, tiles_x, features, planes, lines, bias, out, z, y, fov, add)

    return convolve


@_jit
def _take(
    given: np.ndarray,
    z: int,
    y: int,
    tiles: int,
    place: int,
    features: int,
    planes: np.ndarray,
    lines: np.ndarray,
    values: np.ndarray,
) -> None:
    """relu, then B along z, y and x, of the row of tiles whose corner is z, y."""
    zero, two, three = np.float32(0), np.float32(2), np.float32(3)
    width = given.shape[2]
    for j in range(5):
        for i in range(width):
            d0, d1 = max(given[z, y + j, i], zero), max(given[z + 1, y + j, i], zero)
            d2, d3 = max(given[z + 2, y + j, i], zero), max(given[z + 3, y + j, i], zero)
            d4 = max(given[z + 4, y + j, i], zero)
            a = d3 - d1
            planes[0, j, i] = two * (d0 - d2) + a
            planes[1, j, i] = d3 - d2 - two * d1
            planes[2, j, i] = d3 - three * d2 + two * d1
            planes[3, j, i] = a
            planes[4, j, i] = d4 - d2 - two * a
    for k in range(5):
        for i in range(width):
            d0, d1, d2 = planes[k, 0, i], planes[k, 1, i], planes[k, 2, i]
            d3, d4 = planes[k, 3, i], planes[k, 4, i]
            a = d3 - d1
            lines[0, i] = two * (d0 - d2) + a
            lines[1, i] = d3 - d2 - two * d1
            lines[2, i] = d3 - three * d2 + two * d1
            lines[3, i] = a
            lines[4, i] = d4 - d2 - two * a
        for j in range(5):
            at = (5 * k + j) * 5
            for t in range(tiles):
                i = 3 * t * features
                for c in range(features):
                    d0, d1 = lines[j, i + c], lines[j, i + features + c]
                    d2, d3 = lines[j, i + 2 * features + c], lines[j, i + 3 * features + c]
                    d4 = lines[j, i + 4 * features + c]
                    a = d3 - d1
                    values[at, place + t, c] = two * (d0 - d2) + a
                    values[at + 1, place + t, c] = d3 - d2 - two * d1
                    values[at + 2, place + t, c] = d3 - three * d2 + two * d1
                    values[at + 3, place + t, c] = a
                    values[at + 4, place + t, c] = d4 - d2 - two * a


@_jit
def _give(
    products: np.ndarray,
    place: int,
    tiles: int,
    features: int,
    planes: np.ndarray,
    lines: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    z: int,
    y: int,
    fov: tuple[int, int, int],
    add: bool,
) -> None:
    """A along x, y and z, and the bias, of the row of tiles whose corner is z, y."""
    two, four = np.float32(2), np.float32(4)
    width = fov[2] * features
    for k in range(5):
        for j in range(5):
            at = (5 * k + j) * 5
            for t in range(tiles):
                i = 3 * t * features
                for c in range(features):
                    m1, m2 = products[at + 1, place + t, c], products[at + 2, place + t, c]
                    m3 = products[at + 3, place + t, c]
                    a = m1 + m2
                    planes[k, j, i + c] = products[at, place + t, c] + a + m3
                    planes[k, j, i + features + c] = m1 - m2 + two * m3
                    planes[k, j, i + 2 * features + c] = (
                        a + four * m3 + products[at + 4, place + t, c]
                    )
        for i in range(width):
            m1, m2, m3 = planes[k, 1, i], planes[k, 2, i], planes[k, 3, i]
            a = m1 + m2
            planes[k, 0, i] += a + m3
            planes[k, 1, i] = m1 - m2 + two * m3
            planes[k, 2, i] = a + four * m3 + planes[k, 4, i]
    for j in range(min(3, fov[1] - y)):
        for i in range(width):
            m1, m2, m3 = planes[1, j, i], planes[2, j, i], planes[3, j, i]
            a = m1 + m2
            lines[0, i] = planes[0, j, i] + a + m3 + bias[i]
            lines[1, i] = m1 - m2 + two * m3 + bias[i]
            lines[2, i] = a + four * m3 + planes[4, j, i] + bias[i]
        for k in range(min(3, fov[0] - z)):
            target = out[z + k + 1, y + j + 1]
            for i in range(width):
                if add:
                    target[features + i] += lines[k, i]
                else:
                    target[features + i] = lines[k, i]


@_jit
def _finish(
    x: np.ndarray, weight: np.ndarray, bias: float, features: int, seed: np.ndarray, out: np.ndarray
) -> None:
    """Weigh the features of each voxel, add the seed."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = x[z + 1, y + 1]
            for at in range(out.shape[2]):
                total = np.float32(0)
                for c in range(features):
                    total += weight[c] * max(row[(at + 1) * features + c], np.float32(0))
                out[z, y, at] = seed[z, y, at] + (total + np.float32(bias))

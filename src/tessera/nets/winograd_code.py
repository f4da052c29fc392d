"""What :mod:`tessera.nets.winograd` computes, compiled: tiles taken out, multiplied, put back.

A map is (z, y, x features), contiguous, with a border of zeros. A row of tiles lies along x; what
is taken out of it is (125, place, features), one place a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

LANES = 8  # of a vector: 256 bits; wider machines join two
ROWS = 8  # of tiles, multiplied together: kernels come from memory less often
_SUMS = 12  # vectors of sums that are kept in registers, of 16
SPREAD = np.array(  # B: from 5 inputs to 5 values
    [[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]]
)
GATHER = np.array(  # A: from 5 products to 3 results
    [[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]]
)

_jit = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})


def _wide(features: int) -> int:
    """Vectors of outputs that are summed together."""
    return 2 if features % (2 * LANES) == 0 else 1


def together(features: int) -> int:
    """Places that are multiplied at once, so that their sums stay in registers."""
    return _SUMS // _wide(features)


@intrinsic(prefer_literal=True)
def _multiply(typing: Any, values: Any, kernel: Any, out: Any, features: Any) -> Any:
    """Multiply (places, features) by (features, features) in registers; arguments are addresses.

    As many places at once as leave their sums in registers; the compiler does not find this order
    by itself, and it is twice as fast.
    """
    count = int(features.literal_value)
    wide = _wide(count)
    places = together(count)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = ir.FloatType()
        vector = ir.VectorType(real, LANES)
        fused = get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fmuladd.v{LANES}f32",
        )
        a, w, m = (builder.inttoptr(v, real.as_pointer()) for v in args[:3])
        empty = ir.Constant(vector, ir.Undefined)
        lane = ir.Constant(ir.IntType(32), 0)
        first_lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

        def at(base: Any, index: int) -> Any:
            return builder.gep(base, [ir.Constant(ir.IntType(64), index)])

        def vector_at(base: Any, index: int) -> Any:
            return builder.bitcast(at(base, index), vector.as_pointer())

        for begin in range(0, count, wide * LANES):
            outputs = range(begin, begin + wide * LANES, LANES)
            sums = [[ir.Constant(vector, [0.0] * LANES)] * wide for _ in range(places)]
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


def _combine(matrix: np.ndarray) -> Any:
    """Make the function of (source, step, target, step, features) that applies a matrix to rows.

    Row r of the target is the sum of the source's rows, each times its entry; rows are ``features``
    values, steps are bytes between rows, source and target addresses. What the compiler makes of
    the same loops asks again and again whether they overlap.
    """

    @intrinsic(prefer_literal=True)
    def combine(typing: Any, a: Any, a_step: Any, b: Any, b_step: Any, features: Any) -> Any:
        count = int(features.literal_value)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            real, size = ir.FloatType(), ir.IntType(64)
            vector = ir.VectorType(real, LANES)

            def place(base: Any, step: Any, row: int, lane: int) -> Any:
                offset = builder.mul(step, ir.Constant(size, row))
                at = builder.add(builder.add(base, offset), ir.Constant(size, 4 * lane))
                return builder.inttoptr(at, vector.as_pointer())

            for lane in range(0, count, LANES):
                rows = [
                    builder.load(place(args[0], args[1], k, lane), align=4)
                    for k in range(matrix.shape[1])
                ]
                for r, entries in enumerate(matrix.tolist()):
                    total = None
                    for value, entry in sorted(
                        zip(rows, entries, strict=True), key=lambda pair: abs(pair[1])
                    ):
                        if entry == 0:
                            continue
                        if abs(entry) != 1:
                            factor = ir.Constant(vector, [float(abs(entry))] * LANES)
                            value = builder.fmul(value, factor, flags=("contract",))
                        if total is None:
                            total = value if entry > 0 else builder.fneg(value)
                        elif entry > 0:
                            total = builder.fadd(total, value, flags=("contract",))
                        else:
                            total = builder.fsub(total, value, flags=("contract",))
                    builder.store(total, place(args[2], args[3], r, lane), align=4)
            return context.get_dummy_value()

        address = types.intp
        return types.void(address, address, address, address, features), code

    return combine


_spread, _gather = _combine(SPREAD), _combine(GATHER)


@cache
def _take_of(features: int) -> Callable[..., None]:
    """Return how a row of tiles is taken out of a map of ``features`` channels."""

    @_jit
    def take(
        given: np.ndarray,
        z: int,
        y: int,
        tiles: int,
        place: int,
        planes: np.ndarray,
        lines: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """relu, then B along z, y and x, of the row of tiles whose corner is z, y."""
        zero, two, three = np.float32(0), np.float32(2), np.float32(3)
        width, row, step = given.shape[2], 4 * features, 4 * values.shape[1] * features
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
                source = lines.ctypes.data + 4 * j * width
                target = values.ctypes.data + (5 * k + j) * 5 * step + place * row
                for t in range(tiles):
                    _spread(source + 3 * t * row, row, target + t * row, step, features)

    return take


@cache
def _give_of(features: int) -> Callable[..., None]:
    """Return how the products of a row of tiles become a map of ``features`` channels."""

    @_jit
    def give(
        products: np.ndarray,
        place: int,
        tiles: int,
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
        row, step = 4 * features, 4 * products.shape[1] * features
        width, whole = fov[2] * features, planes.shape[2]
        for k in range(5):
            for j in range(5):
                source = products.ctypes.data + (5 * k + j) * 5 * step + place * row
                target = planes.ctypes.data + 4 * (5 * k + j) * whole
                for t in range(tiles):
                    _gather(source + t * row, step, target + 3 * t * row, row, features)
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
                if add:
                    for i in range(width):
                        target[features + i] += lines[k, i]
                else:
                    for i in range(width):
                        target[features + i] = lines[k, i]

    return give


@cache
def convolution(features: int) -> Callable[..., None]:
    """Return the convolution of ``features`` to ``features`` channels, compiled once."""
    group, take, give = together(features), _take_of(features), _give_of(features)

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
        for begin in range(first, last, ROWS):
            end = min(begin + ROWS, last)
            for row in range(begin, end):
                z, y = 3 * (row // tiles_y), 3 * (row % tiles_y)
                place = (row - begin) * tiles_x
                take(given, z, y, tiles_x, place, planes, lines, values)
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
                give(products, place, tiles_x, planes, lines, bias, out, z, y, fov, add)

    return convolve


@_jit
def finish(
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

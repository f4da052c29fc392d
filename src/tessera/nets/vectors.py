"""Products and sums of rows of float32, as vectors: what convolutions are compiled from.

Written in the compiler's own language where it does not find the order by itself.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8  # of a vector: 256 bits; wider machines join two
SUMS = 12  # vectors of sums that are kept in registers, of 16
_SIZE, _REAL = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(_REAL, LANES)

jit = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})


def wide(outputs: int) -> int:
    """Vectors of outputs that are summed together."""
    return next(n for n in (2, 3, 1) if outputs % (n * LANES) == 0)


def together(outputs: int) -> int:
    """Places that are multiplied at once, so that their sums stay in registers."""
    return SUMS // wide(outputs)


def whole(places: int, outputs: int) -> int:
    """Places for which there must be room: groups of :func:`together` may stand over."""
    group = together(outputs)
    return -(-places // group) * group


def vector_at(builder: Any, address: Any) -> Any:
    """An address, as that of a vector."""
    return builder.inttoptr(address, VECTOR.as_pointer())


def fixed(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(_SIZE, value)


class Sums:
    """Instructions that add products to vectors: sum = value * row + sum, a value for all lanes."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        name = f"llvm.fmuladd.v{LANES}f32"
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self._fused = cgutils.get_or_insert_function(builder.module, kind, name)

    def _every_lane(self, address: Any) -> Any:
        """The value at an address, in all lanes."""
        lane, nothing = ir.IntType(32), ir.Constant(VECTOR, ir.Undefined)
        value = self._builder.load(self._builder.inttoptr(address, _REAL.as_pointer()))
        one = self._builder.insert_element(nothing, value, ir.Constant(lane, 0))
        first = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        return self._builder.shuffle_vector(one, nothing, first)

    def add(self, address: Any, row: list[Any], sums: list[Any]) -> None:
        """Add the value at an address, times each vector of a row, to the row's sums."""
        one = self._every_lane(address)
        for vector, total in zip(row, sums, strict=True):
            made = self._builder.call(self._fused, [one, vector, self._builder.load(total)])
            self._builder.store(made, total)


@intrinsic(prefer_literal=True)
def _multiply(
    typing: Any,
    values: Any,
    step: Any,
    next_input: Any,
    kernel: Any,
    out: Any,
    inputs: Any,
    outputs: Any,
    onto: Any,
    wide: Any,
) -> Any:
    """Multiply (places, inputs) by (inputs, lanes) into a part of (places, outputs).

    Values, kernel and out are addresses; ``step`` and ``next_input`` the bytes between values of
    two places and of two inputs; ``wide`` vectors of outputs, and as many places as leave the sums
    in registers; ``onto`` 1 adds to what is there. The compiler does not find this order by itself,
    and it is twice as fast.
    """
    width = int(wide.literal_value)
    places = SUMS // width

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        products = Sums(builder)
        a, step, next_input, w, m, count, wanted, onto = args[:8]
        zeros = ir.Constant(VECTOR, [0.0] * LANES)
        sums = [
            [cgutils.alloca_once_value(builder, zeros) for _ in range(width)] for _ in range(places)
        ]
        rows = [builder.add(a, builder.mul(step, fixed(p))) for p in range(places)]
        with cgutils.for_range(builder, count) as loop:
            begin = builder.add(w, builder.mul(loop.index, fixed(4 * LANES * width)))
            row = [
                builder.load(vector_at(builder, builder.add(begin, fixed(4 * LANES * o))), align=4)
                for o in range(width)
            ]
            offset = builder.mul(loop.index, next_input)
            for p in range(places):
                products.add(builder.add(rows[p], offset), row, sums[p])
        for p in range(places):
            line = builder.add(m, builder.mul(wanted, fixed(4 * p)))
            for o in range(width):
                target = vector_at(builder, builder.add(line, fixed(4 * LANES * o)))
                with builder.if_then(builder.icmp_signed("!=", onto, fixed(0))):
                    there = builder.load(target, align=4)
                    builder.store(builder.fadd(builder.load(sums[p][o]), there), sums[p][o])
                builder.store(builder.load(sums[p][o]), target, align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8, wide), code


@jit
def multiply(
    values: int,
    step: int,
    next_input: int,
    kernel: np.ndarray,
    used: int,
    products: int,
    outputs: int,
    onto: bool = False,
) -> None:
    """Multiply (place, inputs) by (part, inputs, lanes) to (place, outputs), ``used`` places.

    Values and products are addresses, see ``_multiply``; both hold whole groups of places. ``onto``
    adds to the products that are there.
    """
    parts, inputs, lanes = kernel.shape
    add = 1 if onto else 0
    for part in range(parts):
        weights = kernel.ctypes.data + 4 * part * inputs * lanes
        place = 0
        while place < used:
            a = values + place * step
            m = products + 4 * (place * outputs + part * lanes)
            if lanes == 2 * LANES:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 2)  # type: ignore[call-arg]
                place += 6
            elif lanes == 3 * LANES:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 3)  # type: ignore[call-arg]
                place += 4
            else:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 1)  # type: ignore[call-arg]
                place += 12


def combination(matrix: np.ndarray, relu: bool = False) -> Any:
    """Make the function of (five sources, target, step, length) that applies a matrix to rows.

    Row r of the target is the sum of the sources (of max(0, source) if ``relu``), each times its
    entry. Sources and target are addresses, ``step`` the bytes between the target's rows, a row is
    ``length`` values, whole vectors. What the compiler makes of the same loops asks again and again
    whether they overlap. Rows of the target may be sources: all are read before any is written.
    """

    @intrinsic
    def combine(
        typing: Any, a: Any, b: Any, c: Any, d: Any, e: Any, target: Any, step: Any, length: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            zeros = ir.Constant(VECTOR, [0.0] * LANES)
            vectors = builder.udiv(args[7], fixed(LANES))
            with cgutils.for_range(builder, vectors) as loop:
                offset = builder.mul(loop.index, fixed(4 * LANES))
                rows = [
                    builder.load(vector_at(builder, builder.add(source, offset)), align=4)
                    for source in args[:5]
                ]
                if relu:
                    rows = [
                        builder.select(builder.fcmp_ordered("<", row, zeros), zeros, row)
                        for row in rows
                    ]
                made = [_weighted(builder, rows, entries) for entries in matrix.tolist()]
                for r, total in enumerate(made):
                    line = builder.add(args[5], builder.mul(args[6], fixed(r)))
                    at = vector_at(builder, builder.add(line, offset))
                    builder.store(total, at, align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), code

    return combine


def _weighted(builder: Any, rows: list[Any], entries: list[int]) -> Any:
    """The sum of vectors, each times its entry; small factors first."""
    total = None
    for value, entry in sorted(zip(rows, entries, strict=True), key=lambda pair: abs(pair[1])):
        if entry == 0:
            continue
        if abs(entry) != 1:
            factor = ir.Constant(VECTOR, [float(abs(entry))] * LANES)
            value = builder.fmul(value, factor, flags=("contract",))
        if total is None:
            total = value if entry > 0 else builder.fneg(value)
        elif entry > 0:
            total = builder.fadd(total, value, flags=("contract",))
        else:
            total = builder.fsub(total, value, flags=("contract",))
    return total

"""Products and sums of rows of float32, as vectors: what convolutions are compiled from.

Written in the compiler's own language where it does not find the order by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic

LEAST = 8  # lanes of the narrowest vectors: 256 bits; what is computed here has a multiple of it
_CONFIG: Any = numba.config
_FEATURES: str = _CONFIG.CPU_FEATURES or get_host_cpu_features().flatten()  # as numba takes them
LANES = 16 if "+avx512f" in _FEATURES else LEAST  # of the widest ones
SUMS = 12  # vectors of sums that are kept in registers
_SIZE, _REAL = ir.IntType(64), ir.FloatType()

# Where what was compiled is kept. By itself numba compiles anew when a function's own file changed,
# not when one did that it takes parts from: the folder's name follows these files.
_TAKEN_FROM = b"".join(
    Path(__file__).with_name(name).read_bytes() for name in ("vectors.py", "winograd_code.py")
)
_KEPT = Path(_CONFIG.CACHE_DIR or Path(__file__).with_name("__pycache__"))
_KEPT /= hashlib.sha256(_TAKEN_FROM).hexdigest()[:12]


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function, without its lock; what was compiled is kept."""
    given, _CONFIG.CACHE_DIR = _CONFIG.CACHE_DIR, str(_KEPT)
    try:
        return numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract", "nsz"})(
            function
        )
    finally:
        _CONFIG.CACHE_DIR = given


def _layout(outputs: int) -> tuple[int, int]:
    """Vectors of outputs that are summed together, and their lanes."""
    return next(
        (n, lanes) for lanes in (LANES, LEAST) for n in (2, 3, 1) if outputs % (n * lanes) == 0
    )


def part(outputs: int) -> int:
    """Outputs that are summed together: a part of all, which fills whole vectors."""
    vectors, lanes = _layout(outputs)
    return vectors * lanes


def whole(places: int, outputs: int) -> int:
    """Places for which there must be room: groups that are multiplied at once may stand over."""
    group = SUMS // _layout(outputs)[0]
    return -(-places // group) * group


def vector(lanes: int) -> Any:
    """The type of a vector."""
    return ir.VectorType(_REAL, lanes)


def vector_at(builder: Any, address: Any, lanes: int) -> Any:
    """An address, as that of a vector."""
    return builder.inttoptr(address, vector(lanes).as_pointer())


def fixed(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(_SIZE, value)


class Sums:
    """Instructions that add products to vectors: sum = value * row + sum, a value for all lanes."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self._builder, self._lanes = builder, lanes
        name = f"llvm.fmuladd.v{lanes}f32"
        kind = ir.FunctionType(vector(lanes), [vector(lanes)] * 3)
        self._fused = cgutils.get_or_insert_function(builder.module, kind, name)

    def _every_lane(self, address: Any) -> Any:
        """The value at an address, in all lanes."""
        lane, nothing = ir.IntType(32), ir.Constant(vector(self._lanes), ir.Undefined)
        value = self._builder.load(self._builder.inttoptr(address, _REAL.as_pointer()))
        one = self._builder.insert_element(nothing, value, ir.Constant(lane, 0))
        first = ir.Constant(ir.VectorType(lane, self._lanes), [0] * self._lanes)
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
    vectors: Any,
    lanes: Any,
) -> Any:
    """Multiply (places, inputs) by (inputs, part) into a part of (places, outputs).

    Values, kernel and out are addresses; ``step`` and ``next_input`` the bytes between values of
    two places and of two inputs; the part is ``vectors`` of ``lanes`` outputs, and as many places
    as leave the sums in registers; ``onto`` 1 adds to what is there. The compiler does not find
    this order by itself, and it is twice as fast.
    """
    width, long = int(vectors.literal_value), int(lanes.literal_value)
    places = SUMS // width

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        products = Sums(builder, long)
        a, step, next_input, w, m, count, wanted, onto = args[:8]
        zeros = ir.Constant(vector(long), [0.0] * long)
        sums = [
            [cgutils.alloca_once_value(builder, zeros) for _ in range(width)] for _ in range(places)
        ]
        rows = [builder.add(a, builder.mul(step, fixed(p))) for p in range(places)]
        with cgutils.for_range(builder, count) as loop:
            begin = builder.add(w, builder.mul(loop.index, fixed(4 * long * width)))
            row = [
                builder.load(
                    vector_at(builder, builder.add(begin, fixed(4 * long * o)), long), align=4
                )
                for o in range(width)
            ]
            offset = builder.mul(loop.index, next_input)
            for p in range(places):
                products.add(builder.add(rows[p], offset), row, sums[p])
        for p in range(places):
            line = builder.add(m, builder.mul(wanted, fixed(4 * p)))
            for o in range(width):
                target = vector_at(builder, builder.add(line, fixed(4 * long * o)), long)
                with builder.if_then(builder.icmp_signed("!=", onto, fixed(0))):
                    there = builder.load(target, align=4)
                    builder.store(builder.fadd(builder.load(sums[p][o]), there), sums[p][o])
                builder.store(builder.load(sums[p][o]), target, align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8, vectors, lanes), code


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
    """Multiply (place, inputs) by (parts, inputs, part) to (place, outputs), ``used`` places.

    Values and products are addresses, see ``_multiply``; both hold whole groups of places. ``onto``
    adds to the products that are there.
    """
    parts, inputs, wide = kernel.shape
    add = 1 if onto else 0
    for part in range(parts):
        weights = kernel.ctypes.data + 4 * part * inputs * wide
        place = 0
        while place < used:
            a = values + place * step
            m = products + 4 * (place * outputs + part * wide)
            if wide == 2 * LANES:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 2, LANES)  # type: ignore[call-arg]
                place += SUMS // 2
            elif wide == 3 * LANES:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 3, LANES)  # type: ignore[call-arg]
                place += SUMS // 3
            elif wide == LANES:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 1, LANES)  # type: ignore[call-arg]
                place += SUMS
            elif wide == 3 * LEAST:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 3, LEAST)  # type: ignore[call-arg]
                place += SUMS // 3
            else:
                _multiply(a, step, next_input, weights, m, inputs, outputs, add, 1, LEAST)  # type: ignore[call-arg]
                place += SUMS


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
        def apply(builder: Any, args: Any, offset: Any, lanes: int) -> None:
            """To one vector of each source."""
            zeros = ir.Constant(vector(lanes), [0.0] * lanes)
            rows = [
                builder.load(vector_at(builder, builder.add(source, offset), lanes), align=4)
                for source in args[:5]
            ]
            if relu:
                rows = [
                    builder.select(builder.fcmp_ordered("<", row, zeros), zeros, row)
                    for row in rows
                ]
            made = [_weighted(builder, rows, entries, lanes) for entries in matrix.tolist()]
            for r, total in enumerate(made):
                line = builder.add(args[5], builder.mul(args[6], fixed(r)))
                at = vector_at(builder, builder.add(line, offset), lanes)
                builder.store(total, at, align=4)

        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            count = builder.udiv(args[7], fixed(LANES))
            with cgutils.for_range(builder, count) as loop:
                apply(builder, args, builder.mul(loop.index, fixed(4 * LANES)), LANES)
            done = builder.mul(count, fixed(LANES))
            with builder.if_then(builder.icmp_signed("<", done, args[7])):
                apply(builder, args, builder.mul(done, fixed(4)), LEAST)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 8), code

    return combine


def _weighted(builder: Any, rows: list[Any], entries: list[int], lanes: int) -> Any:
    """The sum of vectors, each times its entry; small factors first."""
    total = None
    for value, entry in sorted(zip(rows, entries, strict=True), key=lambda pair: abs(pair[1])):
        if entry == 0:
            continue
        if abs(entry) != 1:
            factor = ir.Constant(vector(lanes), [float(abs(entry))] * lanes)
            value = builder.fmul(value, factor, flags=("contract",))
        if total is None:
            total = value if entry > 0 else builder.fneg(value)
        elif entry > 0:
            total = builder.fadd(total, value, flags=("contract",))
        else:
            total = builder.fsub(total, value, flags=("contract",))
    return total

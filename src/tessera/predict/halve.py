"""When memory runs out: do a block in halves, with the context that each half needs.

A block's size follows from a memory model, and a model can be wrong: another job may hold part of
the device. So what does not fit is cut in two along its longest axis, again and again, until it
does; how often is remembered, so that the next block does not try in vain::

    read box  |  halo  |      wanted       |  halo  |
    halves    |  halo  |  first  |  halo  |
                       |  halo  | second  |  halo  |

The halves overlap by their halos alone, so the result is that of the whole (but for the order of a
sum: see :mod:`tessera.predict.run`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch

from tessera.errors import WorkFailed
from tessera.predict.trim import Spans

Compute = Callable[[np.ndarray, Spans], np.ndarray]
_MOST_TIMES = 9  # 512 parts
_CPU_SAYS = ("can't allocate memory", "not enough memory")  # torch has no error of its own there


class Halving:
    """Calls a function of a block, in as many parts as memory asks for.

    Args:
        compute: from voxels (z, y, x) and the wanted part, (class, z, y, x) over that part.
        align: what parts begin and end at multiples of (z, y, x).
        halo: context (z, y, x) that a part needs, where there is any.
    """

    def __init__(
        self, compute: Compute, align: tuple[int, int, int], halo: tuple[int, int, int]
    ) -> None:
        self._compute, self._align, self._halo = compute, align, halo
        self.times = 0  # how often a block is cut in two from the start

    def __call__(self, voxels: np.ndarray, wanted: Spans) -> np.ndarray:
        """Return what ``compute`` does of a block.

        Raises:
            WorkFailed: if the smallest part does not fit either.
        """
        while True:
            try:
                return self._parts(voxels, wanted, self.times)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            # Outside of the handler, as the error's frames hold the tensors that did not fit.
            if self.times == _MOST_TIMES or _cut(wanted, self._align) is None:
                raise WorkFailed(
                    f"the device has no memory for a block of {_sizes(wanted)} voxels even in "
                    f"{2**self.times} parts; end what else runs on it"
                )
            self.times += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            print(f"out of memory: blocks are done in {2**self.times} parts", file=sys.stderr)

    def _parts(self, voxels: np.ndarray, wanted: Spans, times: int) -> np.ndarray:
        cut = _cut(wanted, self._align) if times else None
        if cut is None:
            return self._compute(voxels, wanted)
        axis, middle = cut
        first, last = wanted[axis]
        halo, grid = self._halo[axis], self._align[axis]  # a part ends on the grid
        start = max((middle - halo) // grid * grid, 0)
        stop = min(-(-(middle + halo) // grid) * grid, voxels.shape[axis])
        halves = [
            self._parts(
                voxels[_along(axis, 0, stop)], _with(wanted, axis, (first, middle)), times - 1
            ),
            self._parts(
                voxels[_along(axis, start, voxels.shape[axis])],
                _with(wanted, axis, (middle - start, last - start)),
                times - 1,
            ),
        ]
        return np.concatenate(halves, axis=axis + 1)


def _cut(wanted: Spans, align: tuple[int, int, int]) -> tuple[int, int] | None:
    """The longest axis and where to cut it, on the grid; None if there is nothing to cut."""
    lengths = [(b - a) for a, b in wanted]
    for axis in sorted(range(3), key=lambda a: -lengths[a]):
        first, last = wanted[axis]
        middle = first + -(-lengths[axis] // (2 * align[axis])) * align[axis]
        if first < middle < last:
            return axis, middle
    return None


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error) for text in _CPU_SAYS
    )


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))


def _with(spans: Spans, axis: int, span: tuple[int, int]) -> Spans:
    z, y, x = (span if a == axis else s for a, s in enumerate(spans))
    return z, y, x


def _sizes(spans: Spans) -> str:
    return " x ".join(str(b - a) for a, b in spans)

"""Points on the spokes of a half plane, spread onto a square grid: the scatter of the gridder.

The grid holds the frequencies ``ky >= 0`` of a real picture, a margin of the kernel's half width
around them. It is cut into strips of rows and these into tiles that stay in the cache; a spoke
crosses a tile in one *run* of neighbouring points, so all that has to be kept is where runs start::

        strip 1  |  tile  |  tile  |  tile  |        even strips first, then odd ones:
        strip 0  |  tile  |  tile  |  tile  |        what a strip spills over its edge
                     \\      |      /                 meets no other thread
                       spokes, angles

Several slices lie side by side at each point and each cell, so that one weight moves a whole vector
register. Each cell gets its summands in one order, whatever the number of threads.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numba
import numpy as np

WIDTH = 4  # cells that a point reaches, along either axis
LANES = 8  # slices side by side
MARGIN = WIDTH // 2 + 1
_FLOATS = 2 * LANES
_TILE = 32  # cells: 32 x 32 x 8 complex numbers are 64 KiB
_TABLE = 2048  # places of a point within its cell


@dataclass(frozen=True)
class Runs:
    """Runs of points, sorted by strip, tile and angle.

    Attributes:
        angle, first, stop: (runs,) the spoke and its half-open range of points.
        strips: (strips + 1,) where each strip's runs begin.
    """

    angle: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    strips: np.ndarray


def runs_of(step_x: np.ndarray, step_y: np.ndarray, points: int, size: int) -> Runs:
    """Return the runs of spokes whose k-th point lies at k (step_x, step_y), step_y >= 0.

    Args:
        step_x, step_y: (angles,) cells from a point to the next.
        points: of a spoke, the first one at the origin.
        size: cells along either axis of the whole plane.
    """
    across = -(-(size + 2 * MARGIN) // _TILE)
    down = -(-(size // 2 + 1 + 2 * MARGIN) // _TILE)
    k = np.arange(points, dtype=np.float32)
    column = (np.outer(step_x, k) + size // 2 + MARGIN).astype(np.int32) // _TILE
    row = (np.outer(step_y, k) + MARGIN).astype(np.int32) // _TILE
    number = row * across + column
    begins = np.ones(number.shape, bool)
    begins[:, 1:] = number[:, 1:] != number[:, :-1]
    angle, first = np.nonzero(begins)
    stop = np.append(first[1:], points)
    stop[stop == 0] = points
    tile = number[angle, first]
    order = np.argsort(tile, kind="stable")
    strips = np.searchsorted(tile[order], np.arange(down + 1) * across)
    return Runs(angle[order], first[order], stop[order], strips)


def grid_shape(size: int) -> tuple[int, int, int]:
    """Rows, columns and lanes of a grid: the half plane with its margins."""
    return size // 2 + 1 + 2 * MARGIN, size + 2 * MARGIN, LANES


def spread(
    values: np.ndarray,
    runs: Runs,
    step_x: np.ndarray,
    step_y: np.ndarray,
    beta: float,
    size: int,
    grid: np.ndarray,
    pool: Executor,
) -> None:
    """Fill the grid (:func:`grid_shape`), complex64.

    Args:
        values: (angles, points, LANES) complex64.
        runs: of these spokes.
        step_x, step_y: see :func:`runs_of`.
        beta: shape of the kernel (:func:`kernel`).
        size: see :func:`runs_of`.
        grid: what it held is overwritten.
        pool: threads that share the strips.
    """
    cells = grid.view(np.float32).reshape(len(grid), -1)
    floats = values.view(np.float32)
    table = _table(beta)
    half = size // 2 + MARGIN

    def strip(number: int) -> None:
        part = slice(runs.strips[number], runs.strips[number + 1])
        _spread(
            cells, floats, table, runs.angle[part], runs.first[part], runs.stop[part],
            step_x, step_y, half,
        )  # fmt: skip

    def clear(number: int) -> None:
        grid[number * _TILE : (number + 1) * _TILE] = 0

    list(pool.map(clear, range(len(runs.strips) - 1)))
    for parity in (0, 1):
        list(pool.map(strip, range(parity, len(runs.strips) - 1, 2)))


def kernel(u: np.ndarray, beta: float) -> np.ndarray:
    """Kaiser-Bessel kernel at u cells from its middle, where it is 1; doi:10.1109/42.97598."""
    inside = np.maximum(1 - (2 * u / WIDTH) ** 2, 0)
    value = np.i0(beta * np.sqrt(inside)) / np.i0(beta)
    return np.asarray(np.where(np.abs(u) <= WIDTH / 2, value, 0))


def kernel_transform(x: np.ndarray, beta: float) -> np.ndarray:
    """Its Fourier transform at x cycles a cell, x within the picture (the argument stays real)."""
    inside = np.sqrt(beta**2 - (np.pi * WIDTH * x) ** 2)
    return np.asarray(WIDTH * np.sinh(inside) / inside / np.i0(beta))


def _table(beta: float) -> np.ndarray:
    """Weights (places, WIDTH) of the cells around a point, by its place within its cell."""
    part = (np.arange(_TABLE) + 0.5) / _TABLE
    # The first cell is the least integer above x - WIDTH / 2; `part` is how far above it lies.
    first = part[:, None] - WIDTH / 2
    return kernel(first + np.arange(WIDTH), beta).astype(np.float32)


@numba.njit(cache=True, nogil=True, boundscheck=False, fastmath={"contract"})
def _spread(grid, values, table, angle, first, stop, step_x, step_y, half):  # type: ignore[no-untyped-def]
    line = np.empty(WIDTH * _FLOATS, np.float32)
    for run in range(len(angle)):
        a = angle[run]
        for k in range(first[run], stop[run]):
            x = k * step_x[a] + half - WIDTH / 2
            y = k * step_y[a] + MARGIN - WIDTH / 2
            column, row = int(np.ceil(x)), int(np.ceil(y))
            across = int((column - x) * _TABLE)
            down = int((row - y) * _TABLE)
            value = values[a, k]
            for j in range(WIDTH):
                weight = table[across, j]
                part = line[j * _FLOATS : (j + 1) * _FLOATS]
                for lane in range(_FLOATS):
                    part[lane] = weight * value[lane]
            for i in range(WIDTH):
                weight = table[down, i]
                cells = grid[row + i, column * _FLOATS : (column + WIDTH) * _FLOATS]
                for n in range(WIDTH * _FLOATS):
                    cells[n] += weight * line[n]

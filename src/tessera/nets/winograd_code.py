"""What :mod:`tessera.nets.winograd` computes, compiled: tiles taken out, multiplied, put back.

A map is (z, y, x channels), its rows contiguous. Tiles are worked on in *patches*: a few rows of
tiles along x, so many that a kernel is brought from memory for some dozens of tiles at once, and
so few that what lies between the steps stays in the cache. What is taken out of a patch is (125,
place, channels), one place a tile.
"""

from __future__ import annotations

import numpy as np

from tessera.nets.vectors import combination, jit, multiply

PLACES = 24  # of a patch, about: what is taken out of it stays in the cache
SPREAD = np.array(  # B: from 5 inputs to 5 values
    [[2, -1, -2, 1, 0], [0, -2, -1, 1, 0], [0, 2, -3, 1, 0], [0, -1, 0, 1, 0], [0, 2, -1, -2, 1]]
)
GATHER = np.array(  # A: from 5 products to 3 results
    [[1, 1, 1, 1, 0], [0, 1, -1, 2, 0], [0, 1, 1, 4, 1]]
)
_spread, _gather = combination(SPREAD), combination(GATHER)
_spread_relu = combination(SPREAD, relu=True)


@jit
def take(
    source: np.ndarray,
    size: tuple[int, int, int],
    corner: tuple[int, int, int],
    tiles: int,
    relu: bool,
    values: np.ndarray,
    place: int,
    channel: int,
    planes: np.ndarray,
    lines: np.ndarray,
    nothing: np.ndarray,
) -> None:
    """Apply B along z, y and x to a row of tiles; what lies outside of the map is zero.

    ``source`` is a map's address, the bytes between its planes and between its rows, and its
    channels; ``corner`` is the first voxel of the first tile, perhaps outside. The result goes to
    ``values`` from ``place`` and ``channel`` on.
    """
    address, plane_step, row_step, channels = source[0], source[1], source[2], source[3]
    z, y, x = corner
    width = (3 * tiles + 2) * channels
    low, high = max(0, x), min(size[2], x + 3 * tiles + 2)
    before, length = (low - x) * channels, max(0, high - low) * channels
    zeros, planes_at, lines_at = nothing.ctypes.data, planes.ctypes.data, lines.ctypes.data
    part, plane = 4 * width, 4 * 5 * width
    flat = planes.reshape(-1)
    for j in range(5):
        for k in range(5):
            begin = (5 * k + j) * width
            flat[begin : begin + before] = 0
            flat[begin + before + length : begin + width] = 0
        if not 0 <= y + j < size[1]:
            for k in range(5):
                begin = (5 * k + j) * width
                flat[begin : begin + width] = 0
            continue
        at = address + (y + j) * row_step + 4 * low * channels
        a = at + z * plane_step if 0 <= z < size[0] else zeros
        b = at + (z + 1) * plane_step if 0 <= z + 1 < size[0] else zeros
        c = at + (z + 2) * plane_step if 0 <= z + 2 < size[0] else zeros
        d = at + (z + 3) * plane_step if 0 <= z + 3 < size[0] else zeros
        e = at + (z + 4) * plane_step if 0 <= z + 4 < size[0] else zeros
        target = planes_at + j * part + 4 * before
        if relu:
            _spread_relu(a, b, c, d, e, target, plane, length)
        else:
            _spread(a, b, c, d, e, target, plane, length)
    voxel, row = 4 * channels, 4 * values.shape[2]
    step = values.shape[1] * row
    for k in range(5):
        a = planes_at + k * plane
        _spread(a, a + part, a + 2 * part, a + 3 * part, a + 4 * part, lines_at, part, width)
        for j in range(5):
            a = lines_at + j * part
            target = values.ctypes.data + (5 * k + j) * 5 * step + place * row + 4 * channel
            for _ in range(tiles):
                b, c, d, e = a + voxel, a + 2 * voxel, a + 3 * voxel, a + 4 * voxel
                _spread(a, b, c, d, e, target, step, channels)
                a += 3 * voxel
                target += row


@jit
def give(
    products: np.ndarray,
    place: int,
    tiles: int,
    planes: np.ndarray,
    lines: np.ndarray,
) -> None:
    """Apply A along x, y and z to a row of tiles; ``lines`` becomes (z, y, x channels) of 3 x 3."""
    outputs = products.shape[2]
    row, step = 4 * outputs, 4 * products.shape[1] * outputs
    width = 3 * tiles * outputs
    part, plane = 4 * width, 4 * 5 * width
    planes_at, lines_at = planes.ctypes.data, lines.ctypes.data
    for k in range(5):
        for j in range(5):
            a = products.ctypes.data + (5 * k + j) * 5 * step + place * row
            target = planes_at + k * plane + j * part
            for _ in range(tiles):
                b, c, d, e = a + step, a + 2 * step, a + 3 * step, a + 4 * step
                _gather(a, b, c, d, e, target, row, outputs)
                a += row
                target += 3 * row
        a = planes_at + k * plane
        _gather(a, a + part, a + 2 * part, a + 3 * part, a + 4 * part, a, part, width)
    for j in range(3):
        a = planes_at + j * part
        b, c, d, e = a + plane, a + 2 * plane, a + 3 * plane, a + 4 * plane
        _gather(a, b, c, d, e, lines_at + j * part, 3 * part, width)


@jit
def convolve(
    sources: np.ndarray,
    size: tuple[int, int, int],
    pad: int,
    kernel: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    relu_in: bool,
    slope: float,
    beside: np.ndarray,
    steps: tuple[int, int, int],
    slope_of_sum: float,
    span: tuple[int, int],
    patch: tuple[int, int],
    values: np.ndarray,
    products: np.ndarray,
    planes: np.ndarray,
    lines: np.ndarray,
    nothing: np.ndarray,
) -> None:
    """Convolve patches ``span`` of maps (sample, z, y, x, channels), joined along their channels.

    Args:
        sources: (map, 5): address; bytes between planes, between rows; channels; bytes between
            samples.
        size: of the maps (z, y, x).
        pad: zeros around them, 0 or 1.
        kernel: (125, part, inputs, lanes).
        bias: of the outputs, repeated along a patch.
        out: (sample, z, y, x channels).
        relu_in: of what is taken.
        slope: of negative results; 0 is a ReLU, 1 nothing.
        beside: values that are then added, all that lie between the first and the last; or none.
        steps: values between their samples, planes and rows.
        slope_of_sum: of negative sums with them.
        span: first patch, and the one after the last.
        patch: rows of tiles, tiles along x.
        values, products, planes, lines, nothing: scratch, the last all zero.
    """
    rows, across = patch
    outputs = products.shape[2]
    whole = out.shape[3] // outputs
    tiles_z, tiles_y, tiles_x = (
        (out.shape[1] + 2) // 3,
        (out.shape[2] + 2) // 3,
        (whole + 2) // 3,
    )
    groups, parts = (tiles_z * tiles_y + rows - 1) // rows, (tiles_x + across - 1) // across
    source = np.empty(4, np.int64)
    zero, below, add = np.float32(0), np.float32(slope), beside.shape[0] > 0
    below_sum = np.float32(slope_of_sum)
    for number in range(span[0], span[1]):
        sample, rest = number // (groups * parts), number % (groups * parts)
        group, part = rest // parts, rest % parts
        first, last = group * rows, min((group + 1) * rows, tiles_z * tiles_y)
        x = 3 * part * across
        tiles = min(across, tiles_x - part * across)
        for row in range(first, last):
            z, y = 3 * (row // tiles_y), 3 * (row % tiles_y)
            channel = 0
            for n in range(sources.shape[0]):
                source[:] = sources[n, :4]
                source[0] += sample * sources[n, 4]
                corner = (z - pad, y - pad, x - pad)
                place = (row - first) * tiles
                take(
                    source, size, corner, tiles, relu_in, values, place, channel,
                    planes, lines, nothing,
                )  # fmt: skip
                channel += source[3]
        places, inputs = values.shape[1], values.shape[2]
        for at in range(125):
            multiply(
                values.ctypes.data + 4 * at * places * inputs, 4 * inputs, 4, kernel[at],
                (last - first) * tiles, products.ctypes.data + 4 * at * places * outputs, outputs,
            )  # fmt: skip
        voxels = min(3 * tiles, whole - x)
        length, width = voxels * outputs, 3 * tiles * outputs
        flat = lines.reshape(-1)
        for row in range(first, last):
            z, y = 3 * (row // tiles_y), 3 * (row % tiles_y)
            give(products, (row - first) * tiles, tiles, planes, lines)
            for k in range(min(3, out.shape[1] - z)):
                for j in range(min(3, out.shape[2] - y)):
                    begin = (3 * k + j) * width
                    made = flat[begin : begin + length]
                    target = out[sample, z + k, y + j, x * outputs : x * outputs + length]
                    if add:
                        first_beside = sample * steps[0] + (z + k) * steps[1] + (y + j) * steps[2]
                        first_beside += x * outputs
                        added = beside[first_beside : first_beside + length]
                        for i in range(length):
                            value = made[i] + bias[i]
                            value = (below * value if value < zero else value) + added[i]
                            target[i] = below_sum * value if value < zero else value
                    else:
                        for i in range(length):
                            value = made[i] + bias[i]
                            target[i] = below * value if value < zero else value


@jit
def finish(
    x: np.ndarray, weight: np.ndarray, bias: float, seed: np.ndarray, out: np.ndarray
) -> None:
    """Weigh the features of each voxel of (z, y, x, features), add the seed."""
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for at in range(out.shape[2]):
                total = np.float32(0)
                for c in range(weight.shape[0]):
                    total += weight[c] * max(x[z, y, at, c], np.float32(0))
                out[z, y, at] = seed[z, y, at] + (total + np.float32(bias))

"""Stripes removed by sorting: Vo's algorithm 3 (doi:10.1364/OE.26.028396), laid out for vectors.

A detector pixel that is wrong by a factor keeps the order of what it sees, so a stripe shows as a
jump between columns once each is sorted. The median of each rank over neighbouring columns has no
such jumps; put back where the ranks came from, it is the sinogram without stripes.

1. A value and its angle become one integer, which sorts as the value does, and by the angle where
   values are equal: integers sort several times faster than values with an index beside them, and
   the result is one and the same on all machines.
2. The running median keeps its window sorted. A value enters and one leaves by minima and maxima
   alone, with no branch, so several ranks travel in one vector register.
3. Some columns at a time are put back, so that their lines stay in the cache.

The result is that of algotom's ``remove_stripe_based_sorting``, bit for bit where no two values of
a column are equal.
"""

from __future__ import annotations

import numba
import numpy as np

_COLUMNS = 16  # sorted and put back at a time: a line of the cache
_LANES = 32  # ranks side by side in the median
_SIGN = np.uint32(1 << 31)
_ALL = np.uint32((1 << 32) - 1)
_HALF = np.uint64(32)


def smooth_sorted(sinogram: np.ndarray, size: int, out: np.ndarray) -> None:
    """Sort each column, take the median of each rank over columns, sort back.

    Args:
        sinogram: (angles, columns), float32.
        size: columns of the median's window; edges are reflected.
        out: (angles, columns), float32; may be the sinogram itself.
    """
    angles, columns = sinogram.shape
    ranks = np.empty((columns, angles), np.float32)
    order = np.empty((columns, angles), np.uint32)
    keys = np.empty((_COLUMNS, angles), np.uint64)
    for first in range(0, columns, _COLUMNS):
        part = slice(first, min(first + _COLUMNS, columns))
        some = keys[: part.stop - first]
        _pack(sinogram[:, part].view(np.uint32), some)
        some.sort(axis=1)
        _unpack(some, ranks[part].view(np.uint32), order[part])
    places = (np.arange(columns + size) - size // 2) % (2 * columns)
    places = np.where(places < columns, places, 2 * columns - 1 - places)
    smooth = np.empty_like(ranks)
    _running_median(ranks, places, size, smooth)
    _put_back(smooth, order, out)


@numba.njit(cache=True, nogil=True)
def _pack(bits, keys):  # type: ignore[no-untyped-def]
    """keys[column, angle]: the bits of a float, so turned that they sort as it does; its angle."""
    for angle in range(bits.shape[0]):
        for column in range(bits.shape[1]):
            value = bits[angle, column]
            turned = value ^ (_ALL if value & _SIGN else _SIGN)
            keys[column, angle] = np.uint64(turned) << _HALF | np.uint64(angle)


@numba.njit(cache=True, nogil=True)
def _unpack(keys, bits, order):  # type: ignore[no-untyped-def]
    for column in range(keys.shape[0]):
        for rank in range(keys.shape[1]):
            key = keys[column, rank]
            turned = np.uint32(key >> _HALF)
            bits[column, rank] = turned ^ (_SIGN if turned & _SIGN else _ALL)
            order[column, rank] = np.uint32(key)


@numba.njit(cache=True, nogil=True)
def _running_median(ranks, places, size, out):  # type: ignore[no-untyped-def]
    """out[i, rank]: the median of ranks[places[i : i + size], rank]."""
    columns, angles = ranks.shape
    window = np.empty((size, _LANES), np.float32)  # sorted along the first axis
    behind = np.empty(_LANES, np.float32)
    for first in range(0, angles, _LANES):
        lanes = min(_LANES, angles - first)
        for k in range(size):
            for lane in range(lanes):
                window[k, lane] = ranks[places[k], first + lane]
        for lane in range(lanes):
            window[:, lane] = np.sort(window[:, lane])
        for i in range(columns):
            out[i, first : first + lanes] = window[size // 2, :lanes]
            leaves = ranks[places[i], first : first + lanes]
            enters = ranks[places[i + size], first : first + lanes]
            # With what enters: v[k] = max(w[k - 1], min(w[k], enters)), one longer. Without what
            # leaves: v[k] below it, v[k + 1] from it on.
            for lane in range(lanes):
                w, e = window[0, lane], enters[lane]
                behind[lane] = w if w < e else e
            for k in range(size - 1):
                _step(window[k], window[k + 1], behind, enters, leaves, lanes)
            for lane in range(lanes):
                w, e, v = window[size - 1, lane], enters[lane], behind[lane]
                top = w if w > e else e
                window[size - 1, lane] = v if v < leaves[lane] else top


@numba.njit(cache=True, nogil=True, inline="always")
def _step(here, above, behind, enters, leaves, lanes):  # type: ignore[no-untyped-def]
    for lane in range(lanes):
        w, next_w, e, v = here[lane], above[lane], enters[lane], behind[lane]
        low = next_w if next_w < e else e
        next_v = w if w > low else low
        here[lane] = v if v < leaves[lane] else next_v
        behind[lane] = next_v


@numba.njit(cache=True, nogil=True)
def _put_back(smooth, order, out):  # type: ignore[no-untyped-def]
    """out[order[column, rank], column] = smooth[column, rank], some columns at a time."""
    columns, angles = smooth.shape
    part = np.empty((angles, _COLUMNS), np.float32)
    for first in range(0, columns, _COLUMNS):
        many = min(_COLUMNS, columns - first)
        for n in range(many):
            for rank in range(angles):
                part[order[first + n, rank], n] = smooth[first + n, rank]
        for angle in range(angles):
            out[angle, first : first + many] = part[angle, :many]

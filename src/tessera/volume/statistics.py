"""Statistics of a whole volume, in pieces, through dask: the global normalisation and window.

Each piece gives a few numbers, which are added up in the order of the pieces; so the result is the
same whatever the number of threads, and memory is that of a few pieces.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.box import Box
from tessera.volume.store import Volume

if TYPE_CHECKING:
    import dask.array as da

_PIECE = 1 << 24  # voxels of a piece, at most
_FINE_BINS = 1 << 16
_SHOWN_BINS = 256
_WORKERS = 4  # more threads only hold more pieces in memory


class _Lazy:
    """A volume as what dask takes for an array: it reads when it is indexed."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self.shape, self.dtype, self.ndim = tuple(volume.shape), volume.dtype, 3

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        spans = [s.indices(n) for s, n in zip(index, self.shape, strict=True)]
        return self._volume.read(Box.of(tuple(s[0] for s in spans), tuple(s[1] for s in spans)))


def lazy_array(volume: Volume) -> da.Array:
    """Return a volume (z, y, x) as a dask array whose chunks are whole shards."""
    import dask.array as da

    if volume.has_channels:
        raise ValueError(f"{volume.path}: has channels")
    piece = [min(s, n) for s, n in zip(volume.shard, volume.shape, strict=True)]
    for axis in (2, 1, 0):  # few large pieces: a graph of 10**6 would not fit into memory
        most = max(1, _PIECE // math.prod(piece))
        piece[axis] *= min(most, -(-volume.shape[axis] // piece[axis]))
    return da.from_array(_Lazy(volume), chunks=tuple(piece), name=False, asarray=False, lock=False)


def _compute(*arrays: da.Array) -> list[np.ndarray]:
    import dask

    workers = min(_WORKERS, len(os.sched_getaffinity(0)))
    done = dask.compute(*arrays, scheduler="threads", num_workers=workers)
    return [np.asarray(d) for d in done]


def _there(data: np.ndarray, mask: np.ndarray | None, zero_is_empty: bool) -> np.ndarray:
    """Values that count: finite, inside the mask, and not the 0 of empty space."""
    if mask is not None:
        data = data[np.broadcast_to(mask, data.shape)]
    if data.dtype.kind == "f":
        data = data[np.isfinite(data)]
    return (data[data != 0] if zero_is_empty else data).ravel()


def _moments(
    data: np.ndarray, mask: np.ndarray | None = None, *, zero_is_empty: bool
) -> np.ndarray:
    values = _there(data, mask, zero_is_empty).astype(np.float64)
    if not values.size:
        return np.array([0, 0, 0, np.inf, -np.inf]).reshape(1, 1, 1, 5)
    mean = values.mean()
    parts = [values.size, mean, ((values - mean) ** 2).sum(), values.min(), values.max()]
    return np.array(parts).reshape(1, 1, 1, 5)


def _counts(
    data: np.ndarray, mask: np.ndarray | None, edges: np.ndarray, *, zero_is_empty: bool
) -> np.ndarray:
    values = _there(data, mask, zero_is_empty)
    # Even bins: a multiplication a voxel instead of a search.
    found, _ = np.histogram(values, bins=len(edges) - 1, range=(edges[0], edges[-1]))
    return found.reshape(1, 1, 1, -1)


def _pieces(volume: Volume, mask: np.ndarray | None) -> list[da.Array]:
    import dask.array as da

    data = lazy_array(volume)
    if mask is None:
        return [data]
    return [data, da.from_array(mask[None], chunks=(1, *data.chunks[1:]))]


def _summary(volume: Volume, mask: np.ndarray | None) -> tuple[int, float, float, float, float]:
    """Number, mean, variance, smallest and largest of the values that count."""
    import dask.array as da

    parts = _pieces(volume, mask)
    lazy = da.map_blocks(
        _moments,
        *parts,
        zero_is_empty=volume.zero_is_empty,
        dtype=np.float64,
        chunks=_ones(parts[0], 5),
        new_axis=3,
        meta=_meta(4),
    )
    (found,) = _compute(lazy)
    count, mean, square, low, high = 0.0, 0.0, 0.0, np.inf, -np.inf
    for n, m, s, a, b in found.reshape(-1, 5):
        if n:
            # Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115
            delta = m - mean
            square += s + delta**2 * count * n / (count + n)
            mean += delta * n / (count + n)
            count, low, high = count + n, min(low, a), max(high, b)
    if not count:
        raise TesseraError(
            f"{volume.path}: holds nothing but empty voxels; look at the tiles or the source"
        )
    return int(count), float(mean), float(square / count), float(low), float(high)


def _ones(data: da.Array, last: int) -> tuple[tuple[int, ...], ...]:
    return (*(tuple(1 for _ in c) for c in data.chunks), (last,))


def _meta(ndim: int) -> np.ndarray:
    return np.empty((0,) * ndim)


def _histogram(
    volume: Volume, mask: np.ndarray | None, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and even edges: one bin an integer value, or very fine ones."""
    import dask.array as da

    if volume.dtype.kind in "iu" and high - low < _FINE_BINS:
        edges = np.arange(low, high + 2) - 0.5
    else:
        high = high if high > low else low + max(abs(low), 1.0) * 1e-6
        edges = np.linspace(low, high, _FINE_BINS + 1)
    parts = _pieces(volume, mask)
    lazy = da.map_blocks(
        _counts,
        *parts,
        *([None] if mask is None else []),
        edges,
        zero_is_empty=volume.zero_is_empty,
        dtype=np.int64,
        chunks=_ones(parts[0], len(edges) - 1),
        new_axis=3,
        meta=_meta(4).astype(np.int64),
    )
    (counts,) = _compute(lazy.sum(axis=(0, 1, 2), split_every=4))
    return counts, edges


def _quantiles(counts: np.ndarray, edges: np.ndarray, percent: Sequence[float]) -> list[float]:
    """Percentiles from a histogram, linear inside a bin."""
    total = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    # A strictly rising staircase: flat stretches (empty bins) would make the inverse ambiguous.
    rising = np.concatenate([[True], np.diff(total) > 0])
    wanted = np.asarray(percent) / 100 * total[-1]
    return [float(v) for v in np.interp(wanted, total[rising], edges[rising])]


def percentiles(
    volume: Volume, percent: Sequence[float], mask: np.ndarray | None = None
) -> list[float]:
    """Return percentiles of a volume's voxels.

    Args:
        volume: without channels.
        percent: 0 to 100.
        mask: bool (y, x) of the voxels that count, in each slice; None for all.
    """
    _, _, _, low, high = _summary(volume, mask)
    counts, edges = _histogram(volume, mask, low, high)
    return _quantiles(counts, edges, percent)


def statistics(volume: Volume) -> dict[str, Any]:
    """Return the statistics that normalise a volume, the same for each of its blocks.

    Empty voxels (:attr:`Volume.zero_is_empty`) do not count.

    Returns:
        ``mean``, ``std``, ``min``, ``max``, ``p01``, ``p50``, ``p99`` (percentiles), ``count``,
        ``histogram`` and ``edges`` (at most 256 bins).
    """
    count, mean, variance, low, high = _summary(volume, None)
    counts, edges = _histogram(volume, None, low, high)
    p01, p50, p99 = _quantiles(counts, edges, (1, 50, 99))
    group = -(-len(counts) // _SHOWN_BINS)
    shown = np.concatenate([counts, np.zeros(-len(counts) % group, counts.dtype)])
    shown = shown.reshape(-1, group).sum(axis=1)
    step = float(edges[1] - edges[0]) * group
    return {
        "mean": mean,
        "std": math.sqrt(variance),
        "min": low,
        "max": high,
        "p01": p01,
        "p50": p50,
        "p99": p99,
        "count": count,
        "histogram": [int(n) for n in shown],
        "edges": [float(edges[0]) + step * i for i in range(len(shown) + 1)],
    }

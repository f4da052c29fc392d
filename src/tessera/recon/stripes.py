"""Stripes of a sinogram, which become rings: removed by one method of the field, row by row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from scipy.ndimage import median_filter

from tessera.config import Rings


def remove_stripes(sinograms: np.ndarray, settings: Rings, threads: int = 1) -> np.ndarray:
    """Remove stripes from (angles, rows, columns), row by row.

    ``sorting`` and ``all``: Vo 2018, doi:10.1364/OE.26.028396; ``wavelet-fourier``: Münch 2009,
    doi:10.1364/OE.17.008567; ``titarenko``: doi:10.1107/S0909049510035727. All but the first are
    algotom's functions; its sorting takes longer than the reconstruction.
    """
    if settings.method == "none":
        return sinograms
    clean = np.empty_like(sinograms)

    def one(row: int) -> None:
        sinogram = np.ascontiguousarray(sinograms[:, row])
        if settings.method == "sorting":
            clean[:, row] = smooth_sorted(sinogram, settings.size)
        else:
            clean[:, row] = _by_algotom(sinogram, settings)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(sinograms.shape[1])))
    return clean


def _by_algotom(sinogram: np.ndarray, settings: Rings) -> np.ndarray:
    from algotom.prep import removal

    if settings.method == "wavelet-fourier":
        out = removal.remove_stripe_based_wavelet_fft(
            sinogram, level=settings.level, size=settings.sigma
        )
    elif settings.method == "titarenko":
        out = removal.remove_stripe_based_regularization(sinogram, apply_log=False)
    else:
        out = removal.remove_all_stripe(sinogram, snr=settings.snr, la_size=2 * settings.size)
    return np.asarray(out)


def smooth_sorted(sinogram: np.ndarray, size: int) -> np.ndarray:
    """Vo's algorithm 3: sort each column, take the median of each rank over columns, sort back.

    Args:
        sinogram: (angles, columns), float32.
        size: columns of the median's window.
    """
    order = np.argsort(sinogram.T, axis=1)
    ranks = np.take_along_axis(np.ascontiguousarray(sinogram.T), order, axis=1)
    smooth = _running_median(np.ascontiguousarray(ranks.T), size)
    out = np.empty_like(sinogram)
    _put_back(smooth, order, out)
    return out


@numba.njit(cache=True, nogil=True)
def _running_median(rows, size):  # type: ignore[no-untyped-def]
    """Median over ``size`` neighbours along axis 1; the edges are reflected.

    The window is kept sorted: what enters moves into the place of what leaves.
    """
    count, width = rows.shape
    out = np.empty_like(rows)
    before = size // 2
    window = np.empty(size, rows.dtype)
    padded = np.empty(width + size, rows.dtype)
    for r in range(count):
        for i in range(width + size):
            place = (i - before) % (2 * width)
            padded[i] = rows[r, place if place < width else 2 * width - 1 - place]
        window[:] = np.sort(padded[:size])
        out[r, 0] = window[before]
        for i in range(1, width):
            leaves, enters = padded[i - 1], padded[i + size - 1]
            k = 0
            while window[k] < leaves:
                k += 1
            while k + 1 < size and window[k + 1] < enters:
                window[k] = window[k + 1]
                k += 1
            while k > 0 and window[k - 1] > enters:
                window[k] = window[k - 1]
                k -= 1
            window[k] = enters
            out[r, i] = window[before]
    return out


@numba.njit(cache=True, nogil=True)
def _put_back(smooth, order, out):  # type: ignore[no-untyped-def]
    """out[order[column, rank], column] = smooth[rank, column], some columns at a time."""
    ranks, columns = smooth.shape
    for first in range(0, columns, 16):
        last = min(first + 16, columns)
        for rank in range(ranks):
            for column in range(first, last):
                out[order[column, rank], column] = smooth[rank, column]


def ring_score(sinograms: np.ndarray) -> float:
    """How much of the fine structure of the angular mean is stripes: 0 none.

    The root mean square of the mean over angles, less its smooth part, in units of what noise alone
    would leave there. Few strong stripes count as they are seen.
    """
    mean = sinograms.mean(axis=0)
    fine = mean - median_filter(mean, size=(1, 9), mode="mirror")
    steps = np.diff(sinograms, axis=0)
    noise = np.median(np.abs(steps)) / 0.6745 / np.sqrt(2) / np.sqrt(len(sinograms))
    return float(np.sqrt(np.mean(fine**2)) / max(float(noise), 1e-9))

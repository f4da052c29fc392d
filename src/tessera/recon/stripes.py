"""Stripes of a sinogram, which become rings: removed by one method of the field, row by row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import median_filter

from tessera.config import Rings
from tessera.recon.sorting import smooth_sorted


def remove_stripes(sinograms: np.ndarray, settings: Rings, threads: int = 1) -> np.ndarray:
    """Remove stripes from (angles, rows, columns), row by row.

    ``sorting`` (:mod:`tessera.recon.sorting`) and ``all``: Vo 2018, doi:10.1364/OE.26.028396;
    ``wavelet-fourier``: Münch 2009, doi:10.1364/OE.17.008567; ``titarenko``:
    doi:10.1107/S0909049510035727. All but the first are algotom's functions; its sorting takes
    longer than the reconstruction.
    """
    if settings.method == "none":
        return sinograms
    clean = np.empty_like(sinograms)

    def one(row: int) -> None:
        if settings.method == "sorting":
            smooth_sorted(sinograms[:, row], settings.size, clean[:, row])
        else:
            clean[:, row] = _by_algotom(np.ascontiguousarray(sinograms[:, row]), settings)

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

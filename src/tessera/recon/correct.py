"""From counts to line integrals, in the one order that is right:

1. dead and hot pixels are filled from their neighbours along the row;
2. dark and flat: transmission = (counts - dark) / (flat - dark), the flat being that of the
   projection's own time, between those taken before and after;
3. zingers, which outshine their neighbours in time, take the median of these;
4. -log;
5. stripes, which become rings, are removed from the sinogram.

Arrays are (angles, rows, columns). Each row is treated alone, so slabs of any size agree.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from tessera.config import Recon, Rings
from tessera.errors import TesseraError

_DEAD = 0.02  # of the median flat: below it a pixel sees nothing
_ZINGER = 0.25  # of the local transmission: above it no absorption can be
_FLOOR = 1e-4  # transmission below it is noise


def line_integrals(
    counts: np.ndarray,
    flats: np.ndarray,
    darks: np.ndarray,
    flat_times: np.ndarray,
    settings: Recon,
    where: str,
    times: np.ndarray | None = None,
) -> np.ndarray:
    """Return line integrals without unit, float32, with the detector's stripes still in them.

    Args:
        counts: projections (angles, rows, columns).
        flats, darks: (frames, rows, columns).
        flat_times: (flats,) from 0 (before the scan) to 1 (after it).
        settings: which corrections.
        where: name of the scan, for what is said of bad data.
        times: (angles,) when each projection was taken, on the scale of ``flat_times``; None:
            evenly, from 0 to 1. Neighbours in ``counts`` are neighbours in time.

    Raises:
        TesseraError: projections with NaN, infinite or only zero counts; flats no brighter than
            darks; a row in which no pixel works.
    """
    _check_counts(counts, where)
    dark = np.median(darks, axis=0).astype(np.float32)
    beam = _beam(flats, flat_times, dark, where)
    dead = _dead_pixels(beam.mean(axis=0), where) if settings.dead_pixels else None
    if times is None:
        times = np.linspace(0, 1, len(counts))
    times = np.asarray(times, np.float32)[:, None, None]
    flat = beam[0] if len(beam) == 1 else (1 - times) * beam[0] + times * beam[1]
    ratio = (counts.astype(np.float32) - dark) / np.maximum(flat, 1e-6)
    if dead is not None and dead.any():
        _fill(ratio, dead)
    if settings.zingers:
        _remove_zingers(ratio)
    return -np.log(np.maximum(ratio, _FLOOR))


def _check_counts(counts: np.ndarray, where: str) -> None:
    if counts.dtype.kind == "f":
        bad = ~np.isfinite(counts).all(axis=(1, 2))
        if bad.any():
            raise TesseraError(
                f"{where}: projection {int(np.argmax(bad))} holds NaN or infinite values; repair "
                "or remove that frame"
            )
    dark = ~counts.any(axis=(1, 2))
    if dark.any():
        raise TesseraError(
            f"{where}: projection {int(np.argmax(dark))} is all zero; the frame was dropped: "
            "remove it and its angle"
        )


def _beam(flats: np.ndarray, times: np.ndarray, dark: np.ndarray, where: str) -> np.ndarray:
    """Beam without dark (1 or 2, rows, columns): one, or that before and that after the scan."""
    late = np.asarray(times) > 0.5
    groups = [flats[~late], flats[late]] if late.any() and (~late).any() else [flats]
    beam = np.stack([np.mean(g, axis=0, dtype=np.float64) for g in groups]).astype(np.float32)
    if flats.dtype.kind == "u" and np.median(flats) >= np.iinfo(flats.dtype).max:
        raise TesseraError(f"{where}: the flats are saturated; take them again with less exposure")
    if not np.median(beam - dark) > 0:
        raise TesseraError(
            f"{where}: the flats are no brighter than the darks; are they exchanged, or was the "
            "shutter closed?"
        )
    return beam - dark


def _dead_pixels(beam: np.ndarray, where: str) -> np.ndarray:
    """Pixels (rows, columns) that see nothing."""
    dead = beam < _DEAD * np.median(beam)
    if dead.all(axis=1).any():
        raise TesseraError(
            f"{where}: detector row {int(np.argmax(dead.all(axis=1)))} is dead throughout; crop "
            "the scan to the rows that work"
        )
    return dead


def _fill(frames: np.ndarray, dead: np.ndarray) -> None:
    """Fill dead pixels by interpolation along their row, in place."""
    columns = np.arange(dead.shape[1])
    for row in np.flatnonzero(dead.any(axis=1)):
        good = ~dead[row]
        for column in np.flatnonzero(dead[row]):
            left, right = columns[good & (columns < column)], columns[good & (columns > column)]
            ends = [side for side in (left[-1:], right[:1]) if len(side)]
            frames[:, row, column] = np.mean([frames[:, row, int(e[0])] for e in ends], axis=0)


def _remove_zingers(ratio: np.ndarray) -> None:
    """Replace what outshines its neighbours in time by their median, in place."""
    calm = median_filter(ratio, size=(3, 1, 1), mode="mirror")
    hits = ratio - calm > _ZINGER * np.maximum(calm, 0.1)
    ratio[hits] = calm[hits]


def remove_stripes(sinograms: np.ndarray, settings: Rings) -> np.ndarray:
    """Remove stripes from (angles, rows, columns), row by row.

    ``sorting`` and ``all``: Vo 2018, doi:10.1364/OE.26.028396; ``wavelet-fourier``: Münch 2009,
    doi:10.1364/OE.17.008567; ``titarenko``: doi:10.1107/S0909049510035727.
    """
    if settings.method == "none":
        return sinograms
    from algotom.prep import removal

    clean = np.empty_like(sinograms)
    for row in range(sinograms.shape[1]):
        sinogram = np.ascontiguousarray(sinograms[:, row])
        if settings.method == "sorting":
            out = removal.remove_stripe_based_sorting(sinogram, size=settings.size)
        elif settings.method == "wavelet-fourier":
            out = removal.remove_stripe_based_wavelet_fft(
                sinogram, level=settings.level, size=settings.sigma
            )
        elif settings.method == "titarenko":
            out = removal.remove_stripe_based_regularization(sinogram, apply_log=False)
        else:
            out = removal.remove_all_stripe(sinogram, snr=settings.snr, la_size=2 * settings.size)
        clean[:, row] = out
    return clean


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

"""From counts to line integrals, in the one order that is right:

1. dead and hot pixels are filled from their neighbours along the row;
2. dark and flat: transmission = (counts - dark) / (flat - dark), the flat being that of the
   projection's own time, between those taken before and after;
3. zingers, which outshine their neighbours in time, take the median of these;
4. the phase is retrieved (:mod:`tessera.recon.phase`);
5. -log;
6. stripes, which become rings, are removed from the sinogram (:mod:`tessera.recon.stripes`).

Arrays are (angles, rows, columns). All but the fourth treat each row alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.formats.sample import check_projections

_DEAD = 0.02  # of the median flat: below it a pixel sees nothing
_ZINGER = 0.25  # of the local transmission: above it no absorption can be
_FLOOR = 1e-4  # transmission below it is noise


def transmission(
    counts: np.ndarray,
    flats: np.ndarray,
    darks: np.ndarray,
    flat_times: np.ndarray,
    settings: Recon,
    where: str,
    times: np.ndarray | None = None,
    first_frame: int = 0,
    first_row: int = 0,
    threads: int = 1,
) -> np.ndarray:
    """Return the share of the beam that came through, float32, the detector's stripes in it.

    Args:
        counts: projections (angles, rows, columns).
        flats, darks: (frames, rows, columns).
        flat_times: (flats,) from 0 (before the scan) to 1 (after it).
        settings: which corrections.
        where: name of the scan, for what is said of bad data.
        times: (angles,) when each projection was taken, on the scale of ``flat_times``; None:
            evenly, from 0 to 1. Neighbours in ``counts`` are neighbours in time.
        first_frame, first_row: the scan's number of the first projection, the detector's of the
            first row.
        threads: that share the rows.

    Raises:
        TesseraError: projections with NaN, infinite or only zero counts; flats no brighter than
            darks; a row in which no pixel works.
    """
    check_projections(counts, where, first_frame)
    dark = np.median(darks, axis=0).astype(np.float32)
    beam = _beam(flats, flat_times, dark, where)
    dead = np.zeros(dark.shape, bool)
    if settings.dead_pixels:
        dead = _dead_pixels(beam.mean(axis=0), where, first_row)
    if times is None:
        times = np.linspace(0, 1, len(counts))
    times = np.asarray(times, np.float32)[:, None]
    out = np.empty(counts.shape, np.float32)

    def one(row: int) -> None:
        before, after = beam[0, row], beam[-1, row]
        flat = before if len(beam) == 1 else (1 - times) * before + times * after
        ratio = counts[:, row].astype(np.float32)
        ratio -= dark[row]
        ratio /= np.maximum(flat, 1e-6)
        if dead[row].any():
            _fill(ratio, dead[row])
        if settings.zingers and len(ratio) > 1:
            _remove_zingers(ratio)
        out[:, row] = ratio

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(counts.shape[1])))
    return out


def to_integrals(seen: np.ndarray) -> np.ndarray:
    """Return line integrals without unit of a transmission, in place."""
    np.maximum(seen, _FLOOR, out=seen)
    np.log(seen, out=seen)
    return np.negative(seen, out=seen)


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


def _dead_pixels(beam: np.ndarray, where: str, first_row: int) -> np.ndarray:
    """Pixels (rows, columns) that see nothing."""
    dead = beam < _DEAD * np.median(beam)
    if dead.all(axis=1).any():
        row = first_row + int(np.argmax(dead.all(axis=1)))
        raise TesseraError(
            f"{where}: detector row {row} is dead throughout; crop the scan to the rows that work"
        )
    return np.asarray(dead)


def _fill(frames: np.ndarray, dead: np.ndarray) -> None:
    """Fill the dead pixels (columns,) of frames (angles, columns) along the row, in place."""
    good = np.flatnonzero(~dead)
    for column in np.flatnonzero(dead):
        after = int(np.searchsorted(good, column))
        ends = [*good[max(after - 1, 0) : after], *good[after : after + 1]]
        frames[:, column] = np.mean([frames[:, end] for end in ends], axis=0)


def _remove_zingers(ratio: np.ndarray) -> None:
    """Replace what outshines its neighbours in time by their median, in place."""
    before, after = ratio[:-2], ratio[2:]
    calm = np.empty_like(ratio)
    # The median of three; the first and the last have one neighbour, on both sides.
    calm[0], calm[-1] = ratio[1], ratio[-2]
    np.maximum(before, after, out=calm[1:-1])
    np.minimum(calm[1:-1], ratio[1:-1], out=calm[1:-1])
    np.maximum(calm[1:-1], np.minimum(before, after), out=calm[1:-1])
    hits = ratio - calm > _ZINGER * np.maximum(calm, 0.1)
    ratio[hits] = calm[hits]

"""Before a tile is reconstructed: its rotation axis, and pictures that say whether to trust it.

Neither needs the whole scan. The axis is found in the few frames near the scan's seams, in bands of
rows spread over the detector; the pictures are of the rows in the middle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.formats import Scan
from tessera.recon.axis import FoundAxis, find_axis, given_axis
from tessera.recon.backends import Backend
from tessera.recon.correct import to_integrals, transmission
from tessera.recon.seam import frames_of, seams
from tessera.recon.slab import Corrections, read_counts
from tessera.recon.strip import candidates_of, sheet
from tessera.recon.stripes import remove_stripes, ring_score

_BANDS, _BAND_ROWS = 16, 16  # at most
_LEAST_BANDS = 3  # to vote
_PICTURE_ROWS = 8
_PICTURE_SIDE = 1024  # a flat of more pixels is shown by every n-th
_FLAT_ROWS = 64  # read at a time


def bands_of(rows: int) -> np.ndarray:
    """Return detector rows (bands, rows of a band), bands spread from the first row to the last."""
    each = max(1, min(_BAND_ROWS, rows // _LEAST_BANDS))
    count = min(_BANDS, rows // each)
    starts = np.linspace(0, rows - each, count).round().astype(int)
    return np.asarray(starts[:, None] + np.arange(each))


def axis_of(scan: Scan, angles: np.ndarray, settings: Recon) -> FoundAxis:
    """Return the axis: as the settings give it, or found.

    Raises:
        TesseraError: the axis that is given lies outside the picture; bad frames.
    """
    column = settings.axis.column
    if column is not None:
        if not 0 <= column <= scan.header.columns - 1:
            raise TesseraError(
                f"recon.axis.column: {column} lies outside the picture of "
                f"{scan.header.columns} columns; give a column within it"
            )
        return given_axis(column)
    found = seams(angles)
    used = frames_of(found)
    rows = bands_of(scan.header.rows)
    frames = np.zeros((0, rows.size, scan.header.columns), np.float32)
    if len(used):
        bands = [_integrals_at(scan, used, slice(b[0], b[-1] + 1), settings) for b in rows]
        frames = np.concatenate(bands, axis=1)
    return find_axis(
        frames,
        [s.within(used) for s in found],
        settings.axis,
        rows,
        near_edge=settings.axis.half_acquisition,
    )


def _integrals_at(scan: Scan, used: np.ndarray, rows: slice, settings: Recon) -> np.ndarray:
    """Line integrals (used, rows, columns) of some projections, run by run: zingers are judged by
    neighbours in time."""
    flats, darks = scan.flats(rows), scan.darks(rows)
    last = max(scan.header.angles - 1, 1)
    parts = []
    for run in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1):
        counts = scan.projections(rows, slice(int(run[0]), int(run[-1]) + 1))
        seen = transmission(
            counts, flats, darks, scan.flat_times, settings, scan.path,
            times=run / last, first_frame=int(run[0]), first_row=rows.start,
        )  # fmt: skip
        parts.append(to_integrals(seen))
    return np.concatenate(parts)


def pictures(
    scan: Scan, axis: FoundAxis, settings: Recon, backend: Backend, pixel_um: float
) -> dict[str, np.ndarray]:
    """Return small pictures for the report (docs/formats.md).

    Args:
        scan: an open scan.
        axis: its rotation axis.
        settings: corrections.
        backend: reconstruction of its geometry.
        pixel_um: detector pixel.
    """
    count = scan.header.rows
    start = max(0, count // 2 - _PICTURE_ROWS // 2)
    rows = slice(start, min(count, start + _PICTURE_ROWS))
    middle = count // 2 - start
    counts = read_counts(scan, rows, settings, pixel_um)
    corrections = Corrections(scan, settings, pixel_um)
    raw = corrections.integrals(counts, slice(0, rows.stop - rows.start))
    clean = remove_stripes(raw, settings.rings)
    # Backends do several slices at the price of one; the axis itself is among them.
    axes = np.array(candidates_of(axis, scan.header.columns))
    line = np.repeat(raw[:, middle : middle + 1], len(axes), axis=1)
    slices = backend(*corrections.sinograms(line, axes)) / np.float32(pixel_um * 1e-4)
    made = slices[int(np.argmin(np.abs(axes - axis.column)))]
    return {
        "flat": _frame(scan.flats, count, scan.header.columns),
        "dark": _frame(scan.darks, count, scan.header.columns),
        "sinogram_raw": raw[:, middle],
        "sinogram_clean": clean[:, middle],
        "first_and_mirrored_last": np.stack([clean[0, middle], clean[-1, middle, ::-1]]),
        "row": np.array(count // 2),
        "ring_score": np.array([ring_score(raw), ring_score(clean)]),
        "axis_candidates": sheet(slices, axes),
        "slice": made,
        "profile": made[len(made) // 2],
    }


def _frame(read: Callable[[slice], np.ndarray], rows: int, columns: int) -> np.ndarray:
    """The first frame, small enough to look at, read some rows at a time."""
    step = -(-max(rows, columns) // _PICTURE_SIDE)
    each = step * -(-_FLAT_ROWS // step)
    parts = [read(slice(r, min(r + each, rows)))[0, ::step, ::step] for r in range(0, rows, each)]
    return np.concatenate(parts).astype(np.float32)

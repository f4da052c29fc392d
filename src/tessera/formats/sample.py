"""A look at a few frames: what is wrong with a scan that its headers do not say.

:func:`check_frames` reads some projections and the flats and darks; :func:`check_projections` looks
at what reconstruction reads anyway, so that no bad frame gets past.
"""

from __future__ import annotations

import numpy as np

from tessera.errors import TesseraError
from tessera.formats.scan import Scan
from tessera.formats.source import Source
from tessera.volume.box import Box

UNLABELLED = 255  # in class ids: nobody has looked
_MOST_BYTES = 128 << 20
_CHUNK_FRAMES = 64  # that may be decompressed with the one that is asked for
_DEAD = 0.01  # of the open beam: a pixel that sees less sees nothing
_SATURATED = 0.05  # share of pixels at the top of the detector's range
_FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))


def check_frames(scan: Scan, most_bytes: int = _MOST_BYTES) -> None:
    """Look at all flats and darks, and at the first, middle and last projection.

    Args:
        scan: an open scan.
        most_bytes: what may be read at once, about; of a larger scan, the middle rows are read.

    Raises:
        TesseraError: frames that are not numbers, empty, saturated or dark; a dead detector row.
    """
    header, path = scan.header, scan.path
    rows = _affordable_rows(scan, most_bytes)
    flats, darks = scan.flats(rows), scan.darks(rows)
    _check_finite(flats, "flat", path)
    _check_finite(darks, "dark", path)
    _check_saturated(flats, path)
    open_beam = np.median(flats, axis=0).astype(float) - np.median(darks, axis=0)
    noise = float(np.std(darks - darks.mean(axis=0, dtype=np.float64)))
    bright = float(np.median(open_beam))
    if bright <= 3.0 * noise:
        raise TesseraError(
            f"{path}: flats (median {np.median(flats):g}) are no brighter than darks (median "
            f"{np.median(darks):g}); was the shutter closed, or are the two exchanged?"
        )
    dead = np.flatnonzero((open_beam <= _DEAD * bright).all(axis=1))
    if len(dead):
        row = int(dead[0]) + rows.start
        raise TesseraError(
            f"{path}: detector row {row} is dead throughout ({len(dead)} such); cut it out of the "
            "scan"
        )
    for number in sorted({0, header.angles // 2, header.angles - 1}):
        frame = scan.projections(rows, slice(number, number + 1))
        check_projections(frame, path, number)


def check_projections(frames: np.ndarray, path: str, first: int = 0) -> None:
    """Refuse projections that are not numbers or hold nothing.

    Args:
        frames: (angles, rows, columns), some rows of them.
        path: of the scan.
        first: number of the first of these projections.

    Raises:
        TesseraError: naming the first such projection.
    """
    _check_finite(frames, "projection", path, first)
    empty = np.flatnonzero(~frames.any(axis=(1, 2)))
    if len(empty):
        raise TesseraError(
            f"{path}: projection {first + int(empty[0])} is all zero ({len(empty)} such); the "
            "frame was dropped, leave it and its angle out"
        )


def _check_finite(frames: np.ndarray, kind: str, path: str, first: int = 0) -> None:
    if frames.dtype.kind != "f":
        return
    # A sum is finite only if all of it is; one pass, and no array of booleans.
    with np.errstate(invalid="ignore", over="ignore"):
        sums = frames.sum(axis=(1, 2), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(sums))
    if len(bad):
        raise TesseraError(
            f"{path}: {kind} {first + int(bad[0])} holds values that are not numbers ({len(bad)} "
            f"such); repair it, or leave it out"
        )


def _check_saturated(flats: np.ndarray, path: str) -> None:
    if flats.dtype.kind not in "ui":
        return
    top = int(flats.max())
    share = float(np.mean(flats == top))
    if top in _FULL_SCALES and share > _SATURATED:
        raise TesseraError(
            f"{path}: {100 * share:.0f} % of the flats' pixels stand at {top}, the top of the "
            "detector's range: they are saturated; take flats with a shorter exposure"
        )


def _affordable_rows(scan: Scan, most_bytes: int) -> slice:
    """All rows, or as many from the middle as can be read at once."""
    header = scan.header
    row = header.columns * np.dtype(header.dtype).itemsize
    count = max(1, most_bytes // (row * max(len(scan.flat_times), _CHUNK_FRAMES)))
    if count >= header.rows:
        return slice(0, header.rows)
    first = (header.rows - count) // 2
    return slice(first, first + count)


def highest_label(volume: Source) -> int:
    """Return the highest class id, by reading all of a small volume or some planes of a large one.

    The id that means "nobody has looked" does not count.
    """
    depth = volume.shape[0]
    plane = volume.shape[1] * volume.shape[2] * volume.dtype.itemsize
    affordable = max(1, _MOST_BYTES // max(plane, 1))
    planes = np.unique(np.linspace(0, depth - 1, min(depth, affordable, 64)).astype(int))
    if affordable >= depth:
        return _highest(volume.read(Box.whole(volume.shape)))
    boxes = (Box.of((z, 0, 0), (z + 1, *volume.shape[1:])) for z in planes.tolist())
    return max(_highest(volume.read(box)) for box in boxes)


def _highest(labels: np.ndarray) -> int:
    return int(np.max(labels, initial=0, where=labels != UNLABELLED))

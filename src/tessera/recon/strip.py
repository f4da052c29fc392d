"""Candidates for the rotation axis, one slice each, side by side and labelled: for a person to see.

A wrong axis doubles edges and turns points into arcs; the right one is where they close.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.formats import Scan
from tessera.recon.axis import FoundAxis
from tessera.recon.backends import Backend
from tessera.recon.slab import Corrections, read_counts
from tessera.volume.store import write_errors

_SIDE = 384  # pixels of a picture; larger slices are shown by their middle
_ACROSS = 4
_LABEL = 16
_BESIDE = 2.0  # columns: so far off, a point is an arc that one sees
_APART = 3.0  # columns between minima that are shown, and between guesses where there are none
_MOST = 8


def candidates_of(axis: FoundAxis, columns: int) -> list[float]:
    """Return the columns worth a look: the axis, a little beside it, and the search's other minima.

    Args:
        axis: as it was found, or given.
        columns: of the detector.
    """
    if axis.how == "found" and not axis.candidates:
        return [float(c) for c in (columns - 1) / 2 + _APART * np.arange(-3, 4)]
    beside = [axis.column + d for d in (0, -_BESIDE, _BESIDE)]
    chosen = [c for c in beside if 0 <= c <= columns - 1]
    place, cost = np.array(axis.candidates).reshape(-1, 2).T
    inner = np.flatnonzero((cost[1:-1] <= cost[:-2]) & (cost[1:-1] <= cost[2:])) + 1
    for k in inner[np.argsort(cost[inner], kind="stable")]:
        if all(abs(place[k] - c) >= _APART for c in chosen):
            chosen.append(float(place[k]))
    return sorted(chosen[:_MOST])


def write_strip(
    scan: Scan,
    settings: Recon,
    backend: Backend,
    pixel_um: float,
    columns: Sequence[float],
    out: Path,
    row: int | None = None,
) -> None:
    """Reconstruct one row about each candidate and write a PNG.

    Args:
        scan: an open scan.
        settings: corrections.
        backend: reconstruction of its geometry.
        pixel_um: detector pixel.
        columns: candidates, as pixel-centre columns.
        out: file.
        row: detector row; None: the middle.

    Raises:
        TesseraError: a candidate, or the row, lies outside the picture.
    """
    last = scan.header.columns - 1
    for column in columns:
        if not 0 <= column <= last:
            raise TesseraError(
                f"a candidate axis at {column:g} lies outside the picture of {last + 1} columns; "
                "give columns within it"
            )
    row = scan.header.rows // 2 if row is None else row
    if not 0 <= row < scan.header.rows:
        raise TesseraError(
            f"row {row} lies outside the detector of {scan.header.rows} rows; give one within it"
        )
    corrections = Corrections(scan, settings, pixel_um)
    counts = read_counts(scan, slice(row, row + 1), settings, pixel_um)
    integrals = corrections.integrals(counts, slice(0, 1))
    axes = np.asarray(columns, float)
    shown = corrections.sinograms(np.repeat(integrals, len(axes), axis=1), axes)
    slices = backend(*shown) / np.float32(pixel_um * 1e-4)
    write_sheet(sheet(slices, axes), out)


def sheet(slices: np.ndarray, axes: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return one picture (y, x), uint8, of slices (n, y, x): four a row, in one window of grey.

    Args:
        slices: their middle is shown.
        axes: (n,) candidates, with which they are labelled.
    """
    first = max(0, (slices.shape[1] - _SIDE) // 2)
    part = slices[:, first : first + _SIDE, first : first + _SIDE]
    low, high = np.percentile(part, (0.5, 99.5))
    grey = np.clip((part - low) / max(float(high - low), 1e-12) * 255, 0, 255).astype(np.uint8)
    side = part.shape[1]
    across = min(_ACROSS, len(grey))
    down = -(-len(grey) // across)
    image = Image.new("L", (across * (side + 2), down * (side + _LABEL + 2)), 255)
    pen = ImageDraw.Draw(image)
    for n, (picture, axis) in enumerate(zip(grey, axes, strict=True)):
        x, y = n % across * (side + 2), n // across * (side + _LABEL + 2)
        pen.text((x + 3, y + 2), f"axis {axis:.2f}", fill=0)
        image.paste(Image.fromarray(picture), (x, y + _LABEL))
    return np.asarray(image)


def write_sheet(picture: np.ndarray, out: Path) -> None:
    """Write a :func:`sheet` as PNG."""
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(out)

"""Rows of a scan, from what the file holds to sinograms that are ready to be reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.config import Recon
from tessera.formats import Scan
from tessera.recon.correct import to_integrals, transmission
from tessera.recon.half import widened
from tessera.recon.phase import halo_rows, retrieve
from tessera.recon.stripes import remove_stripes

AT_ONCE = 8  # rows corrected and reconstructed at a time: what is in memory, whatever the slab


@dataclass(frozen=True)
class Counts:
    """What the file holds of some rows, and of those around them that phase retrieval needs.

    Attributes:
        frames, flats, darks: (frames, rows, columns).
        first: detector row of the first one.
        wanted: the rows asked for, within these.
    """

    frames: np.ndarray
    flats: np.ndarray
    darks: np.ndarray
    first: int
    wanted: slice


def read_counts(scan: Scan, rows: slice, settings: Recon, pixel_um: float) -> Counts:
    """Read rows of a scan."""
    halo = halo_rows(settings.phase, pixel_um)
    first = max(0, rows.start - halo)
    read = slice(first, min(scan.header.rows, rows.stop + halo))
    wanted = slice(rows.start - first, rows.stop - first)
    return Counts(scan.projections(read), scan.flats(read), scan.darks(read), first, wanted)


class Corrections:
    """The way from counts to line integrals, for one scan.

    Args:
        scan: an open scan.
        settings: which corrections.
        pixel_um: detector pixel.
        threads: that share the rows.
    """

    def __init__(self, scan: Scan, settings: Recon, pixel_um: float, threads: int = 1) -> None:
        self._flat_times, self._where = scan.flat_times, scan.path
        self._settings, self._pixel_um, self._threads = settings, pixel_um, threads
        self._retrieved: tuple[Counts, np.ndarray] | None = None

    def parts(self, counts: Counts) -> list[slice]:
        """Return runs of the rows that were asked for, a few each, numbered from 0."""
        rows = counts.wanted.stop - counts.wanted.start
        return [slice(n, min(n + AT_ONCE, rows)) for n in range(0, rows, AT_ONCE)]

    def integrals(self, counts: Counts, part: slice) -> np.ndarray:
        """Return line integrals (angles, rows of the part, columns), stripes still in them."""
        settings = self._settings
        if settings.phase is None:
            here = slice(counts.wanted.start + part.start, counts.wanted.start + part.stop)
            return to_integrals(self._transmission(counts, here))
        # All rows are needed at once, and by each part in turn.
        if self._retrieved is None or self._retrieved[0] is not counts:
            seen = self._transmission(counts, slice(0, counts.frames.shape[1]))
            retrieve(seen, settings.phase, self._pixel_um, self._threads)
            self._retrieved = counts, seen[:, counts.wanted]
        return to_integrals(self._retrieved[1][:, part].copy())

    def _transmission(self, counts: Counts, rows: slice) -> np.ndarray:
        return transmission(
            counts.frames[:, rows], counts.flats[:, rows], counts.darks[:, rows],
            self._flat_times, self._settings, self._where,
            first_row=counts.first + rows.start, threads=self._threads,
        )  # fmt: skip

    def sinograms(self, integrals: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is reconstructed, and its axes: no stripes, widened in half acquisition."""
        clean = remove_stripes(integrals, self._settings.rings, self._threads)
        return widened(clean, axes) if self._settings.axis.half_acquisition else (clean, axes)

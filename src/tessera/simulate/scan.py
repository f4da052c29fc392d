"""A detector, and the APS Data Exchange file that a beamline would have written.

Photon counts are Poisson; the beam is not even and fades during the scan (flats are taken before
and after it); pixels' gains drift after the flats were taken, which makes rings; some pixels are
dead; some readings are hit by zingers. The rotation axis and the stage's positions are off.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from tessera.config import Simulate
from tessera.simulate.project import line_integrals
from tessera.simulate.specimen import Specimen
from tessera.simulate.tiles import TilePlan
from tessera.volume.store import write_errors

DARK_COUNTS = 100.0
READ_NOISE = 2.0  # counts
FLATS, DARKS = 10, 8  # flats before, and as many after; darks before
FADING = 0.03  # of the beam, from the first projection to the last
_DRIFTING = 0.05  # share of pixels whose gain drifts fully; the others drift by a tenth of it
_DEAD = 1e-4  # share of pixels
_ZINGERS = 5e-6  # share of pixel readings
_FULL = 50_000  # counts of the brightest pixel, at most
_PART = 32  # projections made at once
_SETUP = "measurement/instrument/sample_motor_stack/setup"


def detect(
    integrals: np.ndarray, settings: Simulate, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return ``data``, ``white`` (before, then after), ``dark``: uint16 (frames, rows, columns).

    Args:
        integrals: line integrals of attenuation (angles, rows, columns), without unit.
        settings: photons and the spread of the gains.
        rng: the tile's own stream.
    """
    count, rows, columns = integrals.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    beam = settings.photons * (1 - 0.25 * (x - 0.1) ** 2 - 0.15 * y**2)
    beam *= 1 + 0.02 * rng.standard_normal((rows, columns))
    # Few pixels drift much, most a little: what stripes look like.
    drift = 1 + settings.rings * rng.standard_normal((rows, columns)) * np.where(
        rng.random((rows, columns)) < _DRIFTING, 1.0, 0.1
    )
    dead = rng.random((rows, columns)) < _DEAD
    scale = min(1.0, _FULL / float(beam.max()))  # counts a photon, so that 16 bits hold them
    fading = 1 - FADING * np.linspace(0, 1, count)[:, None, None]

    def frames(expected: np.ndarray) -> np.ndarray:
        counts = rng.poisson(expected) * scale + DARK_COUNTS
        counts += rng.normal(0, READ_NOISE, expected.shape)
        counts[:, dead] = DARK_COUNTS
        return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)

    data = np.empty(integrals.shape, np.uint16)
    for first in range(0, count, _PART):
        part = slice(first, first + _PART)
        data[part] = frames(beam * drift * fading[part] * np.exp(-integrals[part]))
    hits = rng.integers(0, data.size, max(1, round(data.size * _ZINGERS)))
    data.reshape(-1)[hits] = 65535
    flats = np.repeat([1.0, 1 - FADING], FLATS)[:, None, None]
    return {
        "data": data,
        "white": frames(beam * flats),
        "dark": frames(np.zeros((DARKS, rows, columns))),
    }


def write_scan(path: Path, specimen: Specimen, tile: TilePlan, settings: Simulate) -> None:
    """Scan a tile and write it, atomically; the same settings give the same bytes.

    Raises:
        TesseraError: the disk is full or not to be written.
    """
    angles = np.arange(settings.angles) * (180.0 / settings.angles)
    pixel = settings.voxel_um
    z, y, x = (c / pixel for c in tile.true_um)
    integrals = line_integrals(
        specimen, angles, tile.rows, tile.columns, tile.axis, (z, y, x), pixel
    )
    # The stream depends on the tile's name, not on how many tiles there are.
    rng = np.random.default_rng([settings.seed, 3, *tile.name.encode()])
    counts = detect(integrals, settings, rng)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        with h5py.File(partial, "w") as file:
            _fill(file, counts, angles, tile, pixel)
        os.replace(partial, path)


def _fill(
    file: h5py.File,
    counts: dict[str, np.ndarray],
    angles: np.ndarray,
    tile: TilePlan,
    pixel_um: float,
) -> None:
    for name, key in (("data", "data"), ("data_white", "white"), ("data_dark", "dark")):
        frames = counts[key]
        file.create_dataset(f"exchange/{name}", data=frames, chunks=_chunks(frames))
    file.create_dataset("exchange/theta", data=angles).attrs["units"] = "degrees"
    # The order of the measurement: darks, flats, projections, flats.
    order = np.repeat(
        [
            b"/exchange/data_dark",
            b"/exchange/data_white",
            b"/exchange/data",
            b"/exchange/data_white",
        ],
        [DARKS, FLATS, len(angles), FLATS],
    )
    file.create_dataset("defaults/HDF5FrameLocation", data=order)
    file.create_dataset("defaults/NDArrayUniqueId", data=np.arange(len(order)))
    lengths = {"measurement/instrument/detection_system/objective/resolution": (pixel_um, "um")}
    # As at the beamline: x across the beam, y up, z along it.
    for axis, value in zip("yzx", tile.nominal_um, strict=True):
        lengths[f"{_SETUP}/{axis}"] = (value / 1000.0, "mm")
    for name, (value, unit) in sorted(lengths.items()):
        file.create_dataset(name, data=float(value)).attrs["units"] = unit


def _chunks(frames: np.ndarray) -> tuple[int, int, int]:
    """A few rows of many frames: both one frame and one row are read at a fair price."""
    return min(64, frames.shape[0]), min(16, frames.shape[1]), frames.shape[2]

"""A detector, and the APS Data Exchange file that a beamline would have written.

Photon counts are Poisson; the beam is not even; pixels' gains drift after the flats were taken
(which makes rings); some pixels are dead; some are hit by zingers. The rotation axis and the stage
positions are off, as they are.
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
FLATS, DARKS = 12, 8


def detect(
    integrals: np.ndarray, settings: Simulate, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return `data`, `white` and `dark` as uint16 (frames, rows, columns).

    Args:
        integrals: line integrals of attenuation (angles, rows, columns), without unit.
        settings: photons and the spread of the gains.
        rng: the tile's own stream.
    """
    rows, columns = integrals.shape[1:]
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    beam = settings.photons * (1 - 0.25 * (x - 0.1) ** 2 - 0.15 * y**2)
    beam *= 1 + 0.02 * rng.standard_normal((rows, columns))
    # Few pixels drift much, most a little: what stripes look like.
    drift = 1 + settings.rings * rng.standard_normal((rows, columns)) * np.where(
        rng.random((rows, columns)) < 0.05, 1.0, 0.1
    )
    dead = rng.random((rows, columns)) < 1e-4
    scale = min(1.0, 50_000 / beam.max())  # counts a photon, so that 16 bits hold them

    def frames(expected: np.ndarray) -> np.ndarray:
        counts = rng.poisson(expected) * scale + DARK_COUNTS + rng.normal(0, 2, expected.shape)
        counts[:, dead] = DARK_COUNTS
        return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)

    data = np.empty(integrals.shape, np.uint16)
    for first in range(0, len(data), 32):
        data[first : first + 32] = frames(beam * drift * np.exp(-integrals[first : first + 32]))
    hits = rng.integers(0, data.size, max(1, data.size // 200_000))
    data.reshape(-1)[hits] = 65535
    return {
        "data": data,
        "white": frames(np.broadcast_to(beam, (FLATS, rows, columns))),
        "dark": frames(np.zeros((DARKS, rows, columns))),
    }


def write_scan(path: Path, specimen: Specimen, tile: TilePlan, settings: Simulate) -> None:
    """Scan a tile and write it, atomically."""
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
            for name, key in (("data", "data"), ("data_white", "white"), ("data_dark", "dark")):
                file.create_dataset(f"exchange/{name}", data=counts[key], chunks=_chunks(counts[key]))
            theta = file.create_dataset("exchange/theta", data=angles)
            theta.attrs["units"] = "degrees"
            file["defaults/NDArrayUniqueId"] = np.arange(len(angles))
            pixel_size = file.create_dataset(
                "measurement/instrument/detector/pixel_size", data=float(pixel)
            )
            pixel_size.attrs["units"] = "um"
            for axis, value in zip("zyx", tile.nominal_um, strict=True):
                setup = file.create_dataset(
                    f"measurement/instrument/sample_motor_stack/setup/{axis}", data=float(value)
                )
                setup.attrs["units"] = "um"
        os.replace(partial, path)


def _chunks(frames: np.ndarray) -> tuple[int, int, int]:
    """A few rows of many frames: both one frame and one row are read at a fair price."""
    return min(64, frames.shape[0]), min(16, frames.shape[1]), frames.shape[2]

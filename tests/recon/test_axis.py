"""The rotation axis of specimens that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.config import Axis
from tessera.recon.axis import FoundAxis, find_axis
from tessera.recon.prepare import bands_of
from tessera.recon.seam import frames_of, seams
from tests.recon.phantom import discs

COLUMNS = 160


def search(
    theta: np.ndarray,
    rows: int,
    axis: float,
    slope: float,
    seed: int,
    noise: float,
    **settings: object,
) -> FoundAxis:
    """The axis of discs, more than the detector sees, from the frames that the finder asks for."""
    rng = np.random.default_rng(seed)
    found, bands = seams(theta), bands_of(rows)
    used = frames_of(found)
    frames = np.zeros((len(used), bands.size, COLUMNS), np.float32)
    for n, row in enumerate(bands.ravel()):
        here = axis + slope * (row - (rows - 1) / 2)
        frames[:, n] = discs(theta[used], COLUMNS, here, rng, 60, 110)
    gains = rng.normal(0, noise / 2, (bands.size, COLUMNS)) * (
        rng.random((bands.size, COLUMNS)) < 0.3
    )
    frames += gains.astype(np.float32)  # rings
    frames += rng.normal(0, noise, frames.shape).astype(np.float32)
    return find_axis(frames, [s.within(used) for s in found], Axis(**settings), bands)


@pytest.mark.slow
def test_fifty_axes(record_property: object) -> None:
    """Noise, rings, tilt, 180 and 360 degrees: the bars are 0.1 (median) and 0.5, or refused."""
    errors, refused = [], 0
    for seed in range(50):
        rng = np.random.default_rng(1000 + seed)
        axis = (COLUMNS - 1) / 2 + rng.uniform(-12, 12)
        slope = rng.uniform(-0.02, 0.02)
        count, turn = (721, 360.0) if seed % 10 == 0 else (361, 180.0)
        theta = np.arange(count) * turn / count
        found = search(theta, 9, axis, slope, seed, rng.uniform(0.2, 1.5), tilt=True)
        if found.confidence < Axis().min_confidence:
            refused += 1
        else:
            errors.append(abs(found.column - axis))
    record_property("recon.axis_50_seeds.median", float(np.median(errors)))  # type: ignore[operator]
    record_property("recon.axis_50_seeds.worst", float(np.max(errors)))  # type: ignore[operator]
    record_property("recon.axis_50_seeds.refused", refused)  # type: ignore[operator]
    print(f"median {np.median(errors):.3f}, worst {np.max(errors):.3f}, refused {refused}")
    assert refused <= 5
    assert np.median(errors) <= 0.1
    assert np.max(errors) <= 0.5

from __future__ import annotations

import numpy as np
import pytest

from tessera.config import Simulate
from tessera.simulate.specimen import Specimen

SMALL = Simulate(
    seed=5,
    shape=(24, 48, 48),
    tiles=(1, 1, 2),
    overlap_vox=16,
    angles=31,
    somas=6,
    vessels=2,
    fibres=3,
    axis_error_vox=3,
    stage_error_vox=2,
)


@pytest.fixture(scope="session")
def small() -> Simulate:
    return SMALL


def specimen_of(
    somas: list[tuple[tuple[float, float, float], tuple[float, float, float], np.ndarray]] = (),  # type: ignore[assignment]
    chains: list[list[tuple[float, ...]]] = (),  # type: ignore[assignment]
) -> Specimen:
    """Build a specimen of chosen shapes: somas (centre, axes, rotation), chains of capsules."""
    capsules = [c for chain in chains for c in chain]
    return Specimen(
        body=np.array([[0.0, 0.0, 0.0], [1e-3, 1e-3, 1e-3]]),  # too small to be seen
        blobs=np.zeros((0, 5)),
        somas=np.array([s[0] for s in somas], float).reshape(-1, 3),
        soma_inverse=np.array([np.diag(1 / np.array(s[1])) @ s[2].T for s in somas]).reshape(
            -1, 3, 3
        ),
        soma_radius=np.array([max(s[1]) for s in somas], float),
        soma_volume=np.array([4 / 3 * np.pi * np.prod(s[1]) for s in somas]),
        chains=np.array(capsules, float).reshape(-1, 7),
        chain_of=np.array([n for n, chain in enumerate(chains) for _ in chain], int),
        vessel=np.ones(len(capsules), bool),
    )

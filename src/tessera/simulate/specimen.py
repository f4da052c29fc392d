"""A spinal-cord-like specimen made of shapes whose line integrals are known in closed form.

One large ellipsoid is the body; wide Gaussians are its smooth background; ellipsoids are somas;
chains of capsules (cylinders with round ends) are vessels and fibres. Contrasts add. Somas keep
clear of each other and of vessels and fibres; a chain counts once where its capsules meet.

All lengths are voxels in the specimen's frame (z, y, x); attenuation is in 1/cm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.config import Simulate
from tessera.simulate.tiles import frame

BODY_PER_CM = 8.0
SOMA_PER_CM = 5.0
VESSEL_PER_CM = 10.0
FIBRE_PER_CM = 5.0
GAP_VOX = 2.0


@dataclass(frozen=True)
class Specimen:
    """The shapes.

    Attributes:
        body: centre and semi-axes (2, 3) of the body.
        blobs: (n, 5): centre (z, y, x), sigma, amplitude in 1/cm.
        somas: centre (n, 3).
        soma_inverse: (n, 3, 3), M with |M (p - centre)| <= 1 inside.
        soma_radius: (n,), largest semi-axis.
        chains: (capsules, 7): start (z, y, x), end (z, y, x), radius.
        chain_of: (capsules,), number of the chain; capsules of a chain stand together.
        vessel: (capsules,), True for vessels, False for fibres.
    """

    body: np.ndarray
    blobs: np.ndarray
    somas: np.ndarray
    soma_inverse: np.ndarray
    soma_radius: np.ndarray
    soma_volume: np.ndarray
    chains: np.ndarray
    chain_of: np.ndarray
    vessel: np.ndarray


def make_specimen(settings: Simulate) -> Specimen:
    """Draw a specimen that fills the fused frame; the same settings give the same specimen."""
    rng = np.random.default_rng([settings.seed, 2])
    shape, origin_um = frame(settings)
    low = np.array(origin_um) / settings.voxel_um
    size = np.array(shape, float)
    centre = low + (size - 1) / 2
    body = np.stack([centre, size * [4.0, 0.64, 0.64]])
    blobs = np.column_stack(
        [
            low + rng.uniform(0, 1, (6, 3)) * size,
            rng.uniform(0.12, 0.3, 6) * size.max(),
            rng.uniform(-1.2, 1.2, 6),
        ]
    )
    # Counts are asked for in the field; the frame around it is filled as densely.
    more = float(np.prod(size) / np.prod(settings.shape))
    vessels = _chains(rng, round(settings.vessels * more), low, size, (2.5, 4.5))
    fibres = _chains(rng, round(settings.fibres * more), low, size, (1.2, 1.8))
    capsules = np.concatenate([vessels[0], fibres[0]])
    count = int(vessels[1].max()) + 1 if len(vessels[1]) else 0
    chain_of = np.concatenate([vessels[1], fibres[1] + count])
    is_vessel = np.arange(len(capsules)) < len(vessels[0])
    centres, inverses, radii, volumes = _somas(
        rng, round(settings.somas * more), low, size, capsules
    )
    return Specimen(body, blobs, centres, inverses, radii, volumes, capsules, chain_of, is_vessel)


def _chains(
    rng: np.random.Generator,
    count: int,
    low: np.ndarray,
    size: np.ndarray,
    radii: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Random walks that keep their direction, as capsules (n, 7) and their chain's number (n,)."""
    rows: list[np.ndarray] = []
    of: list[int] = []
    for number in range(count):
        point = low + rng.uniform(0, 1, 3) * size
        way = _unit(rng)
        radius = rng.uniform(*radii)
        for _ in range(rng.integers(3, 7)):
            way = way + 0.35 * _unit(rng)
            way /= np.linalg.norm(way)
            following = point + way * rng.uniform(0.15, 0.3) * size[1:].mean()
            rows.append(np.concatenate([point, following, [radius]]))
            of.append(number)
            point = following
    return np.array(rows).reshape(-1, 7), np.array(of, int)


def _somas(
    rng: np.random.Generator,
    count: int,
    low: np.ndarray,
    size: np.ndarray,
    capsules: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ellipsoids of random axes and orientation that keep clear of all else."""
    centres = np.empty((0, 3))
    inverses: list[np.ndarray] = []
    radii: list[float] = []
    volumes: list[float] = []
    for _ in range(200 * count):
        if len(inverses) == count:
            break
        axes = rng.uniform(4.5, 8.5, 3)
        place = low + rng.uniform(0, 1, 3) * size
        turn, _upper = np.linalg.qr(rng.normal(size=(3, 3)))
        radius = float(axes.max())
        if len(radii) and np.any(
            np.linalg.norm(centres - place, axis=1) < np.array(radii) + radius + GAP_VOX
        ):
            continue
        if len(capsules) and np.any(
            _distance_to_segments(place, capsules) < radius + capsules[:, 6] + GAP_VOX
        ):
            continue
        centres = np.vstack([centres, place])
        inverses.append(np.diag(1 / axes) @ turn.T)
        radii.append(radius)
        volumes.append(4 / 3 * np.pi * float(axes.prod()))
    return (
        centres,
        np.array(inverses).reshape(-1, 3, 3),
        np.array(radii),
        np.array(volumes),
    )


def _distance_to_segments(point: np.ndarray, capsules: np.ndarray) -> np.ndarray:
    start, along = capsules[:, :3], capsules[:, 3:6] - capsules[:, :3]
    part = np.einsum("ij,ij->i", point - start, along) / np.einsum("ij,ij->i", along, along)
    nearest = start + np.clip(part, 0, 1)[:, None] * along
    return np.linalg.norm(point - nearest, axis=1)


def _unit(rng: np.random.Generator) -> np.ndarray:
    way = rng.normal(size=3)
    return way / np.linalg.norm(way)

"""Reconstruction against the true density: error, correlation, bias, away from the border."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError
from tessera.evaluate.scores import Score, score
from tessera.volume.box import Box, Grid
from tessera.volume.store import Volume

_BLOCK = (32, 64, 64)
_COLUMNS = 7


@dataclass(frozen=True)
class Disc:
    """Where a tile is true: a cylinder along z, in voxels of the fused volume."""

    z_start: float
    z_stop: float
    y: float
    x: float
    radius: float


def reconstruction_scores(
    fused: Volume,
    truth: Volume,
    discs: Sequence[Disc],
    margin: int,
    draws: int,
) -> dict[str, Score]:
    """Compare the fused volume with the true density.

    Args:
        fused: the reconstruction, 1/cm.
        truth: the true linear attenuation in the same frame, 1/cm.
        discs: where tiles are true; empty scores everywhere.
        margin: voxels left out at the volume's faces and at the discs' rims.
        draws: resamples of blocks.

    Returns:
        ``recon.rmse``, ``recon.correlation``, ``recon.bias``, ``recon.rmse_relative`` (to the
        truth's standard deviation); empty if nothing is left to compare.

    Raises:
        TesseraError: the shapes differ.
    """
    if fused.shape != truth.shape:
        raise TesseraError(
            f"{truth.path}: true density of {tuple(truth.shape)} voxels for a volume of "
            f"{tuple(fused.shape)}; run simulate and mosaic again"
        )
    inner = Box.whole(fused.shape).grow((-margin,) * 3)
    units = []
    for block in Grid.of(fused.shape, _BLOCK):
        box = block.write.intersect(inner)
        if box.empty:
            continue
        keep = _covered(box, discs, margin)
        if keep.any():
            units.append(
                _sums(fused.read(box)[keep].astype(float), truth.read(box)[keep].astype(float))
            )
    if not units:
        return {}
    table = np.array(units).reshape(-1, _COLUMNS)
    per_cm = "1/cm"
    return {
        "recon.rmse": score(table, _rmse, draws, per_cm, "blocks"),
        "recon.rmse_relative": score(table, _rmse_relative, draws, "1", "blocks"),
        "recon.correlation": score(table, _correlation, draws, "1", "blocks"),
        "recon.bias": score(table, _bias, draws, per_cm, "blocks"),
    }


def _covered(box: Box, discs: Sequence[Disc], margin: int) -> np.ndarray:
    """Which voxels lie in some tile's true part."""
    if not discs:
        return np.ones(box.shape, bool)
    z, y, x = (np.arange(a, b, dtype=float) for a, b in zip(box.start, box.stop, strict=True))
    covered = np.zeros(box.shape, bool)
    for disc in discs:
        rows = (z >= disc.z_start) & (z < disc.z_stop)
        radius = max(disc.radius - margin, 0)
        round_ = (y[:, None] - disc.y) ** 2 + (x[None, :] - disc.x) ** 2 <= radius**2
        covered |= rows[:, None, None] & round_[None]
    return covered


def _sums(a: np.ndarray, b: np.ndarray) -> list[float]:
    difference = a - b
    return [
        a.size,
        float(difference @ difference),
        a.sum(),
        b.sum(),
        float(a @ a),
        float(b @ b),
        float(a @ b),
    ]


def _rmse(sums: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(sums[..., 1] / sums[..., 0]))


def _rmse_relative(sums: np.ndarray) -> np.ndarray:
    n, _, _, b, _, bb, _ = np.moveaxis(sums, -1, 0)
    return np.asarray(_rmse(sums) / np.sqrt(bb / n - (b / n) ** 2))


def _bias(sums: np.ndarray) -> np.ndarray:
    return np.asarray((sums[..., 2] - sums[..., 3]) / sums[..., 0])


def _correlation(sums: np.ndarray) -> np.ndarray:
    n, _, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread = (aa / n - (a / n) ** 2) * (bb / n - (b / n) ** 2)
    return np.asarray((ab / n - a / n * b / n) / np.sqrt(spread))

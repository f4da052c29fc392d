"""Half acquisition and phase retrieval against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.config import Axis, Phase, Recon
from tessera.errors import TesseraError
from tessera.recon.axis import find_axis
from tessera.recon.backends import make_backend
from tessera.recon.half import check_turn, weights, widened
from tessera.recon.phase import length_px, retrieve
from tessera.recon.prepare import bands_of
from tessera.recon.seam import frames_of, seams
from tests.recon.phantom import disc, radii


@given(columns=st.integers(4, 60), part=st.floats(0, 1))
def test_both_halves_share_what_both_see(columns: int, part: float) -> None:
    """Half columns: an axis at one, then its mirror image is a column too."""
    axis = round(part * 2 * (columns - 1)) / 2
    weight = weights(columns, np.array([axis]))[0]
    mirrored = np.round(2 * axis - np.arange(columns)).astype(int)
    both = (mirrored >= 0) & (mirrored < columns)
    assert np.allclose(weight[both] + weight[mirrored[both]], 2, atol=1e-5)
    assert np.allclose(weight[~both], 2, atol=1e-5)


@pytest.mark.parametrize("axis", [11.3, 87.6])
@pytest.mark.parametrize("name", ["gridder", "finufft"])
def test_the_field_is_twice_as_wide(axis: float, name: str) -> None:
    """A disc that no single projection holds."""
    columns, radius, y, x = 100, 70.0, 4.0, -6.0
    theta, sinogram = disc(361, columns, axis, radius, y, x, turn=360.0)
    settings = Recon(backend=name, axis=Axis(half_acquisition=True))  # type: ignore[arg-type]
    shown = widened(sinogram[:, None], np.array([axis]))
    image = make_backend(settings, theta, 2 * columns)(*shown)[0]
    r = radii(2 * columns, y, x)
    assert image[r < 64].mean() == pytest.approx(1.0, abs=0.01)
    assert image[r < 64].std() < 0.05
    outside = (r > 76) & (radii(2 * columns, 0, 0) < 84)
    assert abs(image[outside].mean()) < 0.02


@pytest.mark.parametrize("seed", range(2))
def test_an_axis_near_the_edge_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, rows, axis = 160, 6, 160 - 25 + rng.uniform(-5, 5)
    sinograms = np.zeros((361, rows, columns), np.float32)
    for row in range(rows):
        for _ in range(60):
            y, x = rng.uniform(-100, 100, 2)
            theta, one = disc(361, columns, axis, rng.uniform(3, 12), y, x, turn=360.0)
            sinograms[:, row] += one
    sinograms += rng.normal(0, 0.3, sinograms.shape).astype(np.float32)
    found, where = seams(theta), bands_of(rows)
    used = frames_of(found)
    axis_found = find_axis(
        sinograms[used][:, where.ravel()], [s.within(used) for s in found], Axis(), where,
        near_edge=True,
    )  # fmt: skip
    assert axis_found.column == pytest.approx(axis, abs=0.3)
    assert axis_found.confidence > 0.2


def test_half_a_turn_is_not_enough() -> None:
    with pytest.raises(TesseraError, match="needs 360 degrees"):
        check_turn(np.arange(0, 180.0), "scan.h5")
    check_turn(np.arange(0, 360.0), "scan.h5")


def test_iteration_is_refused() -> None:
    pytest.importorskip("astra")
    settings = Recon(backend="sirt", axis=Axis(half_acquisition=True))
    with pytest.raises(TesseraError, match="half acquisition"):
        make_backend(settings, np.arange(360.0), 32)


PHASE = Phase(energy_kev=20, distance_mm=100, delta_beta=300)


def test_the_length_is_that_of_the_formula() -> None:
    """By hand: 0.61992 angstrom; 6.1992e-5 um x 1e5 um x 300 / (4 pi) = 147.99 um**2."""
    assert length_px(PHASE, 2.0) == pytest.approx(np.sqrt(147.99) / 2, rel=1e-3)


@pytest.mark.parametrize("waves", [(0, 3), (2, 0), (3, 5)])
def test_retrieval_undoes_propagation(waves: tuple[int, int]) -> None:
    """Transport of intensity: contact 1 + a cos cos becomes 1 + a (1 + L**2 k**2) cos cos."""
    rows, columns = 60, 80
    ky, kx = np.pi * waves[0] / rows, np.pi * waves[1] / columns  # even about the edges
    y, x = np.mgrid[:rows, :columns] + 0.5
    contact = 1 + 0.02 * np.cos(ky * y) * np.cos(kx * x)
    stronger = 1 + length_px(PHASE, 6.0) ** 2 * (ky**2 + kx**2)
    seen = (1 + (contact - 1) * stronger).astype(np.float32)[None]
    retrieve(seen, PHASE, 6.0)
    assert np.abs(seen[0] - contact).max() < 2e-4


@pytest.mark.parametrize(
    "wrong", [{"energy_kev": 20_000}, {"distance_mm": 0.01}, {"delta_beta": 0.003}]
)
def test_units_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="greater|less"):
        Phase.model_validate(PHASE.model_dump() | wrong)

"""The contract of all backends, against closed forms: scale, place, sharpness, each row's axis."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import iradon

from tessera.config import Recon
from tessera.errors import TesseraError
from tessera.recon.backends import Backend, make_backend
from tessera.recon.gridder import GridderBackend
from tessera.recon.nufft import NufftBackend
from tests.recon.phantom import disc, radii

NEEDS = {"finufft": "finufft", "tomopy": "tomopy", "sirt": "astra", "cgls": "astra"}
ALL = ["gridder", "finufft", "torch", "tomopy", "sirt", "cgls"]
DIRECT = ["gridder", "finufft", "torch"]


def backend(name: str, theta: np.ndarray, columns: int, **settings: object) -> Backend:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    iterations = 12 if name == "cgls" else 60
    chosen = Recon.model_validate({"backend": name, "iterations": iterations} | settings)
    return make_backend(chosen, theta, columns, threads=2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("odd", "truncated", "turn"),
    [(0, False, 180.0), (1, True, 180.0), (0, True, 360.0), (1, False, 360.0)],
)
def test_a_disc_reads_its_value_where_it_lies(
    name: str, odd: int, truncated: bool, turn: float
) -> None:
    """Three rows: each of a pair, and the odd one; the last one about another axis."""
    columns = odd + (50 if name in ("sirt", "cgls") else 120)
    y, x, radius = 0.05 * columns, -0.07 * columns, 0.3 * columns
    axes = columns / 2 - np.array([2.3, 2.3, 1.0])
    shown = [disc(2 * columns, columns, axis, radius, y, x, turn) for axis in axes]
    theta, sinograms = shown[0][0], np.stack([s for _, s in shown], axis=1)
    made = backend(name, theta, columns, roi_extend=truncated)(sinograms, axes)
    assert made.shape == (3, columns, columns) and made.dtype == np.float32
    r = radii(columns, y, x)
    for image in made:
        assert image[r < 0.85 * radius].mean() == pytest.approx(1.0, abs=0.01)
        outside = (r > 1.15 * radius) & (radii(columns, 0, 0) < columns / 2 - 4)
        assert abs(image[outside].mean()) < 0.02
        edge = image[np.abs(r - radius) < 0.5].mean()
        assert edge == pytest.approx(0.5, abs=0.06)  # half a pixel off would read 0.42
        # The edge lies where it should on each side: a shift shows as a difference.
        sides = [image[(np.abs(r - radius) < 0.5) & side].mean() for side in halves(columns, y, x)]
        assert max(sides) - min(sides) < 0.1


def halves(columns: int, y: float, x: float) -> list[np.ndarray]:
    yy, xx = np.mgrid[:columns, :columns] - (columns - 1) / 2
    return [yy < y, yy > y, xx < x, xx > x]


@pytest.mark.parametrize("name", DIRECT)
def test_a_backend_is_the_backprojection_of_another_library(name: str) -> None:
    columns = 129
    theta, sinogram = disc(181, columns, 64.0, 30, 12, 20)
    mine = backend(name, theta, columns, roi_extend=False)(sinogram[:, None], np.array([64.0]))[0]
    # iradon turns the other way: its y runs upwards.
    theirs = iradon(sinogram.T, theta=theta, filter_name="ramp", circle=True)[::-1]
    inside = radii(columns, 0, 0) < 58
    assert np.corrcoef(mine[inside], theirs[inside])[0, 1] > 0.99


@pytest.mark.parametrize("columns", [64, 75])
@pytest.mark.parametrize("turn", [180.0, 360.0])
@pytest.mark.parametrize("name", ["gridder", "torch"])
def test_gridding_is_the_transform_that_it_approximates(
    name: str, columns: int, turn: float
) -> None:
    """Noise, which fills all frequencies, against finufft; angles that point down too."""
    rng = np.random.default_rng(0)
    theta = np.arange(90) * turn / 90 + 3.0
    sinograms = rng.normal(size=(90, 11, columns)).astype(np.float32)
    axes = columns / 2 + rng.uniform(-3, 3, 11)
    settings = Recon(backend=name, roi_extend=False, filter="hann")  # type: ignore[arg-type]
    mine = make_backend(settings, theta, columns)(sinograms, axes)
    theirs = NufftBackend(settings, theta, columns)(sinograms, axes)
    assert np.sqrt(np.mean((mine - theirs) ** 2) / np.mean(theirs**2)) < 1.5e-3


@pytest.mark.parametrize("name", DIRECT)
def test_threads_and_slabs_change_nothing(name: str) -> None:
    rng = np.random.default_rng(0)
    sinograms = rng.random((60, 24, 64), np.float32)
    theta, axes = np.arange(60) * 3.0, np.full(24, 31.2)
    settings = Recon(backend=name, filter="hann")  # type: ignore[arg-type]
    one = make_backend(settings, theta, 64, threads=1)(sinograms, axes)
    two = make_backend(settings, theta, 64, threads=3)(sinograms, axes)
    part = make_backend(settings, theta, 64)(sinograms[:, 16:22], axes[16:22])
    assert np.array_equal(one, two)
    assert np.array_equal(one[16:22], part)


@pytest.mark.parametrize("truncated_name", ["gridder", "finufft", "torch", "tomopy"])
def test_a_region_of_interest_stays_flat(truncated_name: str) -> None:
    """Half the width of a uniform specimen: the bar is cupping of 3 %."""
    columns, radius = 200, 200
    theta, sinogram = disc(361, columns, 99.5, radius, 0, 0)
    image = backend(truncated_name, theta, columns)(sinogram[:, None], np.array([99.5]))[0]
    r = radii(columns, 0, 0)
    rings = [image[(r >= a) & (r < a + 10)].mean() for a in range(0, 90, 10)]
    assert (max(rings) - min(rings)) / np.mean(rings) < 0.03
    assert np.mean(rings) == pytest.approx(1.0, abs=0.03)


def test_few_angles_streak_less_when_iterated() -> None:
    columns = 96
    theta, sinogram = disc(24, columns, 47.5, 30, 5, 8)
    axes = np.array([47.5])
    truth = radii(columns, 5, 8) < 30
    error = [
        np.sqrt(np.mean((backend(n, theta, columns, roi_extend=False)(sinogram[:, None], axes)[0]
                         - truth) ** 2))
        for n in ("sirt", "gridder")
    ]  # fmt: skip
    assert error[0] < 0.8 * error[1]


@pytest.mark.parametrize("name", ["tomopy", "sirt"])
def test_a_backend_that_is_not_installed_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, NEEDS[name], None)
    settings = Recon(backend=name)  # type: ignore[arg-type]
    with pytest.raises(TesseraError, match="not installed"):
        make_backend(settings, np.arange(10.0), 16)


def test_the_default_is_the_gridder() -> None:
    assert isinstance(make_backend(Recon(), np.arange(180.0), 32), GridderBackend)

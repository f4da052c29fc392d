"""Line integrals against mass, geometry, and sums over points along rays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tessera.simulate.project import line_integrals
from tessera.simulate.raster import raster
from tessera.simulate.specimen import SOMA_PER_CM, VESSEL_PER_CM, Specimen, make_specimen
from tessera.simulate.tiles import frame
from tessera.volume.box import Box

from .conftest import specimen_of

PIXEL_UM = 2.0
CM = PIXEL_UM * 1e-4  # of a pixel


def project(specimen: Specimen, angles, rows=64, columns=65, axis=32.0, centre=(0.0, 0.0, 0.0)):
    turn = np.asarray(angles, float)
    return line_integrals(specimen, turn, rows, columns, axis, centre, PIXEL_UM)


def masses(projections: np.ndarray) -> np.ndarray:
    """Attenuation times volume in voxels, for each projection."""
    return projections.sum(axis=(1, 2)) / CM


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(*[st.floats(-8, 8)] * 3),
    st.tuples(*[st.floats(4.0, 9.0)] * 3),
    st.integers(0, 10**6),
    st.floats(-10, 370),
    st.floats(28, 36),
)
def test_soma_has_its_mass_and_lies_where_it_should(place, axes, seed, angle, axis):
    turn = Rotation.random(random_state=seed).as_matrix()
    made = project(specimen_of([(place, axes, turn)]), [angle], axis=axis)
    volume = 4 / 3 * np.pi * np.prod(axes)
    assert masses(made)[0] == pytest.approx(SOMA_PER_CM * volume, rel=0.02)
    z, y, x = place
    column = axis + x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    weight = made[0] / made[0].sum()
    assert (weight.sum(axis=0) * np.arange(65)).sum() == pytest.approx(column, abs=0.1)
    assert (weight.sum(axis=1) * np.arange(64)).sum() == pytest.approx(z + 31.5, abs=0.1)


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(*[st.floats(-9, 9)] * 3),
    st.tuples(*[st.floats(-9, 9)] * 3),
    st.floats(2.0, 4.0),
    st.floats(0, 180),
)
def test_capsule_has_its_mass(start, end, radius, angle):
    length = float(np.linalg.norm(np.subtract(end, start)))
    if length < 0.5:
        return
    made = project(specimen_of(chains=[[(*start, *end, radius)]]), [angle])
    volume = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
    assert masses(made)[0] == pytest.approx(VESSEL_PER_CM * volume, rel=0.03)


@pytest.mark.parametrize("angle", [0.0, 90.0, 45.0])
def test_capsule_along_the_ray_and_across_it(angle):
    # Along y: at 0 degrees the rays run along it, at 90 across.
    made = project(specimen_of(chains=[[(0, -8, 0, 0, 8, 0, 3.0)]]), [angle])
    volume = np.pi * 9 * 16 + 36 * np.pi
    assert masses(made)[0] == pytest.approx(VESSEL_PER_CM * volume, rel=0.03)
    if angle == 0.0:
        assert made[0].max() == pytest.approx(VESSEL_PER_CM * 22 * CM, rel=0.03)


def test_capsules_of_a_chain_count_once_where_they_meet():
    twice = specimen_of(chains=[[(0, -8, 0, 0, 8, 0, 3.0), (0, -8, 0, 0, 8, 0, 3.0)]])
    apart = specimen_of(chains=[[(0, -8, 0, 0, 8, 0, 3.0)], [(0, -8, 0, 0, 8, 0, 3.0)]])
    once = specimen_of(chains=[[(0, -8, 0, 0, 8, 0, 3.0)]])
    angles = [0.0, 30.0]
    np.testing.assert_allclose(project(twice, angles), project(once, angles), rtol=1e-6)
    np.testing.assert_allclose(project(apart, angles), 2 * project(once, angles), rtol=1e-6)


def test_bent_chain_has_the_mass_of_its_union():
    chain = [(0, -9, -4, 2, 0, 3, 3.0), (2, 0, 3, -3, 9, -5, 3.0)]
    made = masses(project(specimen_of(chains=[chain]), [0.0, 50.0, 110.0]))
    rng = np.random.default_rng(0)
    points = rng.uniform(-14, 14, (400_000, 3))
    inside = np.zeros(len(points), bool)
    for capsule in chain:
        start, along = np.array(capsule[:3]), np.subtract(capsule[3:6], capsule[:3])
        t = np.clip((points - start) @ along / (along @ along), 0, 1)
        inside |= np.linalg.norm(points - start - t[:, None] * along, axis=1) <= 3.0
    assert made == pytest.approx(VESSEL_PER_CM * inside.mean() * 28**3, rel=0.03)


def test_background_is_summed_exactly():
    blob = np.array([[1.0, -3.0, 4.0, 5.0, 2.5]])
    plain = specimen_of()
    body = np.array([[0.0, 2.0, -1.0], [20.0, 15.0, 25.0]])
    specimen = Specimen(**{**plain.__dict__, "blobs": blob, "body": body})
    angle = np.deg2rad(37.0)
    made = project(specimen, [37.0])[0]
    t = np.arange(-80, 80, 0.02)
    for row, column in ((31, 32), (20, 40), (45, 25)):
        z, s = row - 31.5, column - 32.0
        y, x = s * np.sin(angle) + t * np.cos(angle), s * np.cos(angle) - t * np.sin(angle)
        inside = (z / 20) ** 2 + ((y - 2) / 15) ** 2 + ((x + 1) / 25) ** 2 <= 1
        away = (z - 1) ** 2 + (y + 3) ** 2 + (x - 4) ** 2
        summed = (8.0 * inside + 2.5 * np.exp(-away / 50)).sum() * 0.02
        assert made[row, column] == pytest.approx(summed * CM, rel=1e-3)


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_truth_and_projections_show_one_specimen(small, angle):
    """Rays along a voxel axis: sums of the truth's voxels are the line integrals."""
    specimen = make_specimen(small)
    shape, origin = frame(small)
    low = np.array(origin) / small.voxel_um
    reach = int(2.2 * max(shape))  # as far as the body goes
    box = Box.of((0, -reach, -reach), (shape[0], reach, reach))
    density = raster(specimen, box, tuple(low))[2]
    summed = density.sum(axis=1 if angle == 0.0 else 2)
    centre = (low[0] + (shape[0] - 1) / 2, low[1], low[2])
    made = line_integrals(
        specimen, np.array([angle]), shape[0], 2 * reach, reach, centre, small.voxel_um
    )[0] / (small.voxel_um * 1e-4)
    assert np.corrcoef(made.ravel(), summed.ravel())[0, 1] > 0.9999
    inner = summed > 0.2 * summed.max()
    assert np.abs(made - summed)[inner].max() < 0.12 * summed.max()
    assert abs((made - summed)[inner].mean()) < 0.002 * summed.max()

"""Sinograms against mass, geometry, a peer's phantom and a peer's projector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import shepp_logan_phantom
from skimage.transform import radon

from tessera.simulate.phantoms import (
    Ellipse,
    disc_sinogram,
    image,
    shepp_logan,
    shepp_logan_image,
    shepp_logan_sinogram,
    sinogram,
)

places = st.floats(-12, 12)
axes = st.floats(2, 9)


@settings(max_examples=30, deadline=None)
@given(places, places, axes, axes, st.floats(0, 180), st.floats(0, 180))
def test_mass_and_centroid_of_an_ellipse(y, x, a, b, turn, angle):
    made = sinogram([Ellipse(2.0, y, x, a, b, turn)], np.array([angle]), 64, axis=30.25)[0]
    assert made.sum() == pytest.approx(2.0 * np.pi * a * b)
    centre = 30.25 + x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    # The centroid of pixel averages is the centroid of the shadow to second order in the pixel.
    assert (made * np.arange(64)).sum() / made.sum() == pytest.approx(centre, abs=0.05)


def test_disc_in_the_middle_has_its_diameter_as_integral():
    made = disc_sinogram(np.array([0.0, 77.0]), 101, radius=30.0, value=0.5)
    assert made[:, 50] == pytest.approx(30.0, rel=1e-4)
    assert np.all(made[:, :19] == 0) and np.all(made[:, 82:] == 0)


def test_long_side_of_a_turned_ellipse_casts_the_long_shadow():
    long_along_y = [Ellipse(1.0, 0, 0, 20, 4, 90.0)]
    shadow = [(row > 0).sum() for row in sinogram(long_along_y, np.array([0.0, 90.0]), 65)]
    assert shadow[0] < 12 and shadow[1] > 38


def test_shepp_logan_is_the_peers():
    # The peer's pixels at edges are not means over their area; all others agree.
    off = np.abs(shepp_logan_image(400) - shepp_logan_phantom()) > 0.02
    assert off.mean() < 0.03


def test_projections_are_those_of_the_picture():
    angles = np.array([0.0, 33.0, 90.0, 140.0])
    size = 128
    ellipses = [*shepp_logan(size), Ellipse(0.5, 20, -10, 8, 5, 30)]
    theirs = radon(image(ellipses, size), theta=angles, circle=True).T
    # radon turns the other way (y up), about the middle of pixel size // 2: half a pixel off ours.
    moved = [replace(e, y=e.y - 0.5, x=e.x - 0.5) for e in ellipses]
    ours = sinogram(moved, -angles, size, axis=size // 2)
    assert np.abs(theirs - ours).mean() < 0.01 * theirs.max()
    wrong_way = sinogram(moved, angles, size, axis=size // 2)
    assert np.abs(theirs - wrong_way).mean() > 0.015 * theirs.max()


def test_picture_and_sinogram_hold_the_same_mass():
    made = shepp_logan_sinogram(np.array([0.0, 45.0, 120.0]), 200)
    assert made.sum(axis=1) == pytest.approx(shepp_logan_image(200).sum(), rel=1e-3)

"""The closing likelihood: its window against scipy's, its Gaussian against the dense formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal.windows import tukey

from tessera.recon import closing
from tessera.recon.closing import taper


@pytest.mark.parametrize("count", [1, 2, 5, 64, 301])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_taper_is_tukeys_window_without_its_zeros(count: int, share: float) -> None:
    np.testing.assert_allclose(taper(count, share), tukey(count + 2, share)[1:-1], atol=1e-14)


def test_likelihood_is_that_of_the_covariance_written_out() -> None:
    """Few frames, one row frequency: all matrices are inverted as they stand in the docstring."""
    rng = np.random.default_rng(0)
    count, width, noise, stripes = 5, 40, 3.0, 0.4
    omega = np.linspace(0, np.pi, 41)
    frames = rng.normal(size=(2, count, 1, 41)) + 1j * rng.normal(size=(2, count, 1, 41))
    angles = np.array([0.0, 0.5, 1.1, 1.5, 2.3])
    snr = rng.uniform(0.1, 50, 41)
    spectra = closing._Spectra(
        frames, frames, omega, np.arange(41)[None], snr, noise, stripes, length=80
    )
    found = closing._likelihoods(spectra, frames, angles, width)

    band = np.flatnonzero((omega >= 0.12) & (omega <= 2.0))
    band = band[np.unique(np.linspace(0, len(band) - 1, 20).astype(int))]
    apart = np.deg2rad(np.subtract.outer(angles, angles))
    wanted = []
    for rho in closing._DEPTHS:
        for v in closing._CENTRES:
            sums = np.zeros(2)
            for c in band:
                wave = np.sinc(rho * width * omega[c] * apart / np.pi)
                wave = wave * np.exp(1j * omega[c] * v * width * apart)
                matrix = snr[c] * wave + np.eye(count) + stripes
                for n, column in enumerate(frames[:, :, 0, c]):
                    fit = (column.conj() @ np.linalg.solve(matrix, column)).real
                    sums[n] -= fit / noise + np.linalg.slogdet(matrix)[1]
            wanted.append(sums)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)

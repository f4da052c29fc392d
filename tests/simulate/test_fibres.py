"""Simulated fibres: dense, separate, dark between, and the same for the same seed."""

import numpy as np
import pytest

from tessera.errors import TesseraError
from tessera.simulate.fibres import make_fibres


def test_fibres_fill_most_and_never_touch():
    made = make_fibres((40, 48, 56), 3)
    ids = made.ids
    assert made.image.dtype == np.uint8 and ids.shape == (40, 48, 56)
    assert 0.65 < (ids > 0).mean() < 0.88
    assert np.array_equal(np.unique(ids), np.arange(ids.max() + 1))
    membrane, inside = made.image[ids == 0].astype(float), made.image[ids > 0].astype(float)
    assert inside.mean() - membrane.mean() > 20
    touching = 0
    for axis in range(3):
        a = np.moveaxis(ids, axis, 0)
        touching += int(((a[1:] != a[:-1]) & (a[1:] > 0) & (a[:-1] > 0)).sum())
    assert touching < 0.002 * ids.size


def test_fibres_run_along_x():
    ids = make_fibres((40, 40, 60), 1, swerve_vox=3).ids
    long = [np.ptp(np.nonzero((ids == i).any((0, 1)))[0]) for i in range(1, ids.max() + 1)]
    assert np.median(long) > 30


def test_seed_says_all_and_too_small_is_said():
    a, b, c = (make_fibres((24, 24, 24), s) for s in (1, 1, 2))
    assert np.array_equal(a.image, b.image) and np.array_equal(a.ids, b.ids)
    assert not np.array_equal(a.image, c.image)
    with pytest.raises(TesseraError, match="make it larger"):
        make_fibres((2, 2, 2), 0)

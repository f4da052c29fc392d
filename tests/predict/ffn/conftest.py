"""A stand-in for the network that knows the truth, so that filling itself can be tested."""

import numpy as np
import pytest


class Oracle:
    """Says +4 where the image has the value of the centre, -4 elsewhere; surest in the middle."""

    fov = (9, 9, 9)
    deltas = (2, 2, 2)

    def __init__(self):
        at = np.indices(self.fov) - 4
        self.sure = (4 - 0.01 * (at**2).sum(0)).astype(np.float32)
        self.moves = 0
        self.at_once = []

    def __call__(self, fields):
        self.moves += len(fields)
        self.at_once.append(len(fields))
        out = []
        for image, seed in fields:
            centre = image[4, 4, 4]
            assert seed.max() <= 4 and not np.isnan(seed).any()
            out.append(np.where(image == centre, self.sure, np.float32(-4)))
        return out


@pytest.fixture
def oracle():
    return Oracle()

"""Weights sum to one, are zero outside a tile, and leave no step at a border."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.mosaic.blend import tile_weights
from tessera.volume.box import Triple

SHAPE = Triple(9, 21, 21)


def weights_at(offset: np.ndarray, frame: tuple[int, int, int], radius: float | None) -> np.ndarray:
    z, y, x = (np.arange(n) - o for n, o in zip(frame, offset, strict=True))
    return tile_weights((z, y, x), SHAPE, radius).astype(float)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(*[st.floats(-3, 12)] * 3), min_size=1, max_size=5),
    st.one_of(st.none(), st.floats(5, 10)),
)
def test_partition_of_unity_wherever_a_tile_lies(
    offsets: list[tuple[float, float, float]], radius: float | None
) -> None:
    frame = (20, 34, 34)
    own = np.array([weights_at(np.array(o), frame, radius) for o in offsets])
    covered = np.zeros(frame, bool)
    for o in offsets:
        lines = [
            (np.arange(n) - a >= 0) & (np.arange(n) - a <= s - 1)
            for n, a, s in zip(frame, o, SHAPE, strict=True)
        ]
        covered |= lines[0][:, None, None] & lines[1][:, None] & lines[2]
    total = own.sum(axis=0)
    assert ((total > 0) == covered).all()
    shares = own[:, covered] / total[covered]
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-12)
    assert (shares >= 0).all()


def test_the_middle_counts_most_and_the_outside_little() -> None:
    own = weights_at(np.zeros(3), SHAPE, 9.0)
    assert own.argmax() == np.ravel_multi_index((4, 10, 10), SHAPE)
    corner = own[4, 1, 1]  # outside the circle
    assert 0 < corner < 1e-3 * own[4, 10, 10]


def test_no_step_across_the_edge_of_a_circle() -> None:
    """Along a line out of one tile into the next the share falls from 1 to 0 gently."""
    frame = (9, 21, 33)
    a = weights_at(np.array([0.0, 0, 0]), frame, 10.0)[4, 10]
    b = weights_at(np.array([0.0, 0, 12]), frame, 10.0)[4, 10]
    share = a / (a + b)
    assert share[0] == 1 and share[-1] == 0
    assert np.abs(np.diff(share)).max() < 0.35

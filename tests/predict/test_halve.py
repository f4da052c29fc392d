"""What does not fit is done in parts, and nobody can tell from the result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from tessera.errors import WorkFailed
from tessera.predict.halve import Halving
from tessera.predict.trim import Spans

ALIGN = (2, 4, 1)
HALO = (2, 4, 2)  # what a mean over 5^3 voxels sees, on the grid


class Device:
    """Mean over 5^3 voxels on a device that holds so many voxels and no more."""

    def __init__(self, holds: int, error: Exception) -> None:
        self.holds, self.error, self.calls = holds, error, 0

    def __call__(self, voxels: np.ndarray, wanted: Spans) -> np.ndarray:
        assert all(n % a == 0 for n, a in zip(voxels.shape, ALIGN, strict=True))
        self.calls += 1
        if voxels.size > self.holds:
            raise self.error
        made = uniform_filter(voxels, 5, mode="constant")
        return made[tuple(slice(*span) for span in wanted)][None]


ERRORS = [
    MemoryError("full"),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.floats(0.3, 1.0),
    st.sampled_from(ERRORS),
    st.tuples(*[st.booleans()] * 6),
)
@settings(max_examples=40, deadline=None)
def test_parts_make_the_whole(
    counts: tuple[int, int, int], share: float, error: Exception, edges: tuple[bool, ...]
) -> None:
    """Beyond a volume's edge there is no halo."""
    write = [n * a for n, a in zip(counts, ALIGN, strict=True)]
    before = [0 if edge else h for edge, h in zip(edges[:3], HALO, strict=True)]
    after = [0 if edge else h for edge, h in zip(edges[3:], HALO, strict=True)]
    shape = [b + w + a for b, w, a in zip(before, write, after, strict=True)]
    voxels = np.random.default_rng(0).random(shape)
    z, y, x = ((b, b + w) for b, w in zip(before, write, strict=True))
    whole = Device(10**9, error)(voxels, (z, y, x))
    smallest = np.prod([a + 2 * h for a, h in zip(ALIGN, HALO, strict=True)])
    device = Device(max(int(share * voxels.size), int(smallest) + 60), error)
    halving = Halving(device, ALIGN, HALO)
    try:
        found = halving(voxels, (z, y, x))
    except WorkFailed:
        assert device.holds < np.prod(
            [min(s, 2 * a + 2 * h) for s, a, h in zip(shape, ALIGN, HALO, strict=True)]
        )
        return
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    calls, parts = device.calls, 2**halving.times
    np.testing.assert_array_equal(halving(voxels, (z, y, x)), found)
    assert device.calls - calls <= parts  # it remembers


def test_what_fits_is_done_at_once_and_other_errors_pass() -> None:
    voxels = np.zeros((8, 8, 8))
    wanted = ((2, 6), (4, 8), (2, 6))
    device = Device(10**6, ERRORS[0])
    Halving(device, ALIGN, HALO)(voxels, wanted)
    assert device.calls == 1
    with pytest.raises(RuntimeError, match="shapes"):
        Halving(Device(1, RuntimeError("shapes differ")), ALIGN, HALO)(voxels, wanted)
    with pytest.raises(WorkFailed, match="no memory for a block of 4 x 4 x 4 voxels"):
        Halving(Device(1, ERRORS[0]), ALIGN, HALO)(voxels, wanted)

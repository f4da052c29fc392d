"""A few planes at a time: the same as all at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.predict import planes


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 5), st.integers(1, 200))
def test_planes_give_what_the_whole_gives(
    shape: tuple[int, int, int], classes: int, at_once: int
) -> None:
    given_ = torch.rand((1, classes, *shape)).contiguous(memory_format=torch.channels_last_3d)
    works = (planes.probabilities_as_bytes, planes.most_probable, lambda x: torch.softmax(x, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planes, "_VOXELS", at_once)
        for work in works:
            found, whole = planes.by_planes(work, given_), work(given_)
            assert found.dtype == whole.dtype
            torch.testing.assert_close(found, whole)


def test_probabilities_are_rounded_to_the_nearest_step() -> None:
    given_ = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0]).view(1, 1, 1, 1, 5)
    assert planes.probabilities_as_bytes(given_).flatten().tolist() == [0, 0, 1, 254, 255]

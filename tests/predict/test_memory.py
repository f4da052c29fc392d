"""The memory model against layers counted by hand, and against other sizes than it was made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tessera.nets.registry import build
from tessera.predict import memory
from tessera.predict.memory import Memory, memory_of

BESIDE = 1.9  # what the model adds to the tensors that are live


class Whole(nn.Module):
    """A network that cannot be trimmed: it takes the mean of all that it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, 1, z, y, x)."""
        return x - x.mean()


def test_layers_counted_by_hand() -> None:
    # The image, eight features, and eight features once they are bent: floats of four bytes.
    net = nn.Sequential(nn.Conv3d(1, 8, 1), nn.ReLU(), nn.Conv3d(8, 2, 1)).eval()
    found = memory_of(net, (0, 0, 0), (1, 1, 1))
    assert found.read == pytest.approx(BESIDE * 4 * (1 + 8 + 8) + 8, rel=1e-3) and found.write == 0
    # With a halo the image is of the read box, and the rest of little more than the write box.
    net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 2, 1)).eval()
    found = memory_of(net, (8, 8, 8), (1, 1, 1))
    assert found.read == pytest.approx(BESIDE * 4 + 8, rel=1e-3)
    assert found.write == pytest.approx(BESIDE * 4 * (8 + 8), rel=1e-3)


def test_a_network_that_cannot_be_trimmed_counts_by_its_read_box() -> None:
    found = memory_of(Whole(), (4, 4, 4), (1, 1, 1))
    assert found.read == pytest.approx(BESIDE * 4 * 2 + 8, rel=1e-3)
    assert found.write == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("options", [{}, {"stem": 1, "residual": False}])
def test_other_sizes_take_what_the_model_says(options: dict[str, object]) -> None:
    net = build("unet3d", 3, (8, 16), options).eval()
    halo, align = tuple(net.halo), tuple(net.align)  # type: ignore[arg-type]
    found = memory_of(net, halo, align)
    bare = Memory((found.read - 8) / BESIDE, found.write / BESIDE)
    shapes = net.to("meta")
    for write in ((128, 192, 256), (256, 256, 256), (512, 320, 128)):
        read = [w + 2 * h for w, h in zip(write, halo, strict=True)]
        z, y, x = ((h, h + w) for h, w in zip(halo, write, strict=True))
        peak = memory._peak(shapes, read, (z, y, x))
        assert bare.of(math.prod(read), math.prod(write)) == pytest.approx(peak, rel=0.05)


def test_the_network_is_left_as_it_is() -> None:
    net = build("unet3d", 2, (8, 16)).eval()
    memory_of(net, tuple(net.halo), tuple(net.align))  # type: ignore[arg-type]
    assert all(p.device == torch.device("cpu") for p in net.parameters())

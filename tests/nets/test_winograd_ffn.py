"""Minimal filtering against torch's own convolutions."""

import numpy as np
import pytest
import torch

from tessera.nets.ffn import FFN
from tessera.nets.winograd_ffn import Winograd, fits


def fields(fov, samples=1):
    random = np.random.default_rng(sum(fov))
    image = random.normal(0, 1, (samples, 1, *fov))
    seed = random.normal(-2, 3, (samples, 1, *fov))
    return torch.from_numpy(np.concatenate([image, seed], 1).astype(np.float32))


# Sizes that tiles of 3 fill, overhang by one and by two; one vector of features, and pairs of them.
@pytest.mark.parametrize(
    ("features", "depth", "fov"),
    [(8, 2, (9, 9, 9)), (16, 3, (11, 7, 13)), (24, 2, (7, 15, 9)), (32, 4, (13, 11, 21))],
)
def test_it_is_the_network(features, depth, fov):
    torch.manual_seed(features)
    net = FFN(features=features, depth=depth, fov=fov, deltas=1).eval().requires_grad_(False)
    given = fields(fov, 2)
    made = Winograd(net)
    np.testing.assert_allclose(made(given).numpy(), net(given).numpy(), atol=2e-5)
    np.testing.assert_array_equal(made(given).numpy(), made(given).numpy())


def test_threads_change_no_bit():
    torch.manual_seed(0)
    net = FFN(features=16, depth=2, fov=(11, 13, 9), deltas=2).eval().requires_grad_(False)
    given = fields(net.fov)
    one = Winograd(net)(given).numpy()
    for threads in (2, 3, 50):
        np.testing.assert_array_equal(Winograd(net, threads)(given).numpy(), one)


def test_only_whole_vectors_fit():
    assert fits(FFN(features=16, depth=1, fov=9, deltas=1))
    assert not fits(FFN(features=12, depth=1, fov=9, deltas=1))

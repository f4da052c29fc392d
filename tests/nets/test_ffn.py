"""The network against the published layer arithmetic, written out plainly in numpy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from tessera.compute.device import Device
from tessera.errors import TesseraError
from tessera.nets import registry
from tessera.nets.ffn import FFN, import_weights
from tessera.predict.ffn.moves import Mover


def variables(depth, features, seed=0):
    """Random weights as TensorFlow stores them: kernels (z, y, x, in, out)."""
    random = np.random.default_rng(seed)
    out = {}
    for i in range(depth):
        for half in "ab":
            inputs = 2 if (i, half) == (0, "a") else features
            kernel = random.normal(0, (27 * inputs) ** -0.5, (3, 3, 3, inputs, features))
            out[f"seed_update/conv{i}_{half}/weights"] = kernel.astype(np.float32)
            bias = random.normal(0, 0.1, features)
            out[f"seed_update/conv{i}_{half}/biases"] = bias.astype(np.float32)
    out["seed_update/conv_lom/weights"] = random.normal(0, 1, (1, 1, 1, features, 1)).astype("f4")
    out["seed_update/conv_lom/biases"] = np.array([0.3], np.float32)
    return out


def convolve(x, weights, bias):
    """Correlation with zeros outside, channel by channel; x is (channel, z, y, x)."""
    return np.stack(
        [
            bias[o]
            + sum(
                ndimage.correlate(x[i], weights[..., i, o], mode="constant") for i in range(len(x))
            )
            for o in range(weights.shape[-1])
        ]
    )


def plain(v, depth, image, seed):
    def conv(name, x):
        return convolve(x, v[f"seed_update/{name}/weights"], v[f"seed_update/{name}/biases"])

    def relu(x):
        return np.maximum(x, 0)

    x = conv("conv0_b", relu(conv("conv0_a", np.stack([image, seed]))))
    for i in range(1, depth):
        x = x + conv(f"conv{i}_b", relu(conv(f"conv{i}_a", relu(x))))
    return seed + conv("conv_lom", relu(x))[0]


def test_imported_weights_compute_what_the_paper_says(tmp_path):
    given = variables(3, 4)
    np.savez(tmp_path / "w.npz", **given)
    state, options = import_weights(tmp_path / "w.npz")
    assert options == {"depth": 3, "features": 4}
    net = FFN(**options, fov=(7, 9, 11), deltas=(2, 2, 3))
    net.load_state_dict(state)
    random = np.random.default_rng(1)
    image, seed = random.normal(0, 1, (2, 7, 9, 11)).astype(np.float32)
    with torch.no_grad():
        found = net(torch.from_numpy(np.stack([image, seed])[None]))[0, 0].numpy()
    np.testing.assert_allclose(found, plain(given, 3, image, seed), atol=1e-5)


def test_size_of_the_published_network_and_its_geometry():
    net = registry.build("ffn", 1, ())
    assert sum(p.numel() for p in net.parameters()) == 638_433
    assert net.fov == (33, 33, 33) and net.halo == (16, 16, 16) and net.deltas == (8, 8, 8)


def test_seed_stays_fp32_whatever_the_convolutions():
    net = FFN(depth=1, features=2, fov=5, deltas=1)
    torch.nn.init.zeros_(net.last.weight)
    torch.nn.init.zeros_(net.last.bias)
    fields = torch.randn(1, 2, 5, 5, 5)
    with torch.no_grad():
        assert torch.equal(net.to(torch.bfloat16)(fields), fields[:, 1:])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fov": 32}, "odd"),
        ({"deltas": 17}, "leave"),
        ({"depth": 0}, "at least 1"),
        ({"x": 1}, "x"),
    ],
)
def test_impossible_geometry_is_said(options, says):
    with pytest.raises(TesseraError, match=says):
        registry.build("ffn", 1, (), options)
    with pytest.raises(TesseraError, match="one output"):
        registry.build("ffn", 2, ())


def test_wrong_weights_are_said(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(TesseraError, match="no variable"):
        import_weights(tmp_path / "w.npz")
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(TesseraError, match="cannot be read"):
        import_weights(tmp_path / "x.npz")


@pytest.mark.parametrize("autocast", [False, True])
def test_logits_are_made_in_fp32_whatever_the_precision(autocast):
    """Features that bf16 holds exactly (a half, everywhere): only the last layer could round."""
    net = FFN(depth=1, features=4, fov=5, deltas=1).requires_grad_(False)
    torch.nn.init.zeros_(net.first_b.weight)
    torch.nn.init.constant_(net.first_b.bias, 0.5)
    random = np.random.default_rng(0)
    given = random.normal(0, 3, (2, 5, 5, 5)).astype(np.float32)
    truth = (
        given[1].astype(float) + 0.5 * float(net.last.weight.double().sum()) + float(net.last.bias)
    )
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            found = net(torch.from_numpy(given)[None])[0, 0].numpy()
    else:
        found = Mover(net, Device(torch.device("cpu"), "bf16"))([given])[0]
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-6)

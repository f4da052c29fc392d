"""Flood-filling network (Januszewski 2018, doi:10.1038/s41592-018-0049-4).

One pass looks at a *field of view*: the image, and what is believed so far of the object that
lies in its centre (a map of logits, the *seed*). It returns the belief, updated::

    x = conv(relu(conv([image, seed])))              3 x 3 x 3, zero padding, no norm
    x = x + conv(relu(conv(relu(x))))                depth - 1 times
    seed + conv1x1x1(relu(x))

The last layer and the sum with the seed are fp32 whatever the precision of the convolutions: the
logits are carried from move to move, and a rounding error would be carried with them. With the
last layer in bf16 the published network says 0.006 too much in the mean, with it in fp32 0.001; the
time of a move is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tessera.errors import TesseraError
from tessera.nets.conv import Conv3d

Size = tuple[int, int, int]


def _triple(value: int | Sequence[int], what: str) -> Size:
    z, y, x = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if min(z, y, x) < 0:
        raise ValueError(f"{what} {(z, y, x)} has a negative size")
    return z, y, x


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.a = Conv3d(features, features, 3, padding=1)
        self.b = Conv3d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, features, z, y, x) to the same shape."""
        y: Tensor = self.b(torch.relu(self.a(torch.relu(x))))
        return y.add_(x) if not torch.is_grad_enabled() else x + y


class FFN(nn.Module):
    """The network, with the geometry of its moves.

    Args:
        outputs: 1, the object in the centre.
        channels: not used, for an FFN has one level: ``features`` says how wide it is.
        depth: number of double convolutions.
        features: channels of the hidden layers.
        fov: size (z, y, x) of the field of view, odd.
        deltas: steps (z, y, x) of a move; must stay inside the field of view.

    Attributes:
        halo: half the field of view: how far its centre stays from a subvolume's edge.
        align: (1, 1, 1), there are no coarse grids.
    """

    def __init__(
        self,
        outputs: int = 1,
        channels: Sequence[int] = (),
        depth: int = 12,
        features: int = 32,
        fov: int | Sequence[int] = 33,
        deltas: int | Sequence[int] = 8,
    ) -> None:
        super().__init__()
        if outputs != 1:
            raise ValueError(f"an FFN has one output, the object it fills, not {outputs}")
        if depth < 1 or features < 1:
            raise ValueError(f"depth {depth} and features {features} must be at least 1")
        self.fov = _triple(fov, "the field of view")
        self.deltas = _triple(deltas, "deltas")
        if any(size % 2 == 0 for size in self.fov):
            raise ValueError(f"the field of view {self.fov} must be odd, for it has a centre")
        if any(2 * d >= f for d, f in zip(self.deltas, self.fov, strict=True)):
            raise ValueError(f"deltas {self.deltas} leave the field of view {self.fov}")
        self.halo: Size = (self.fov[0] // 2, self.fov[1] // 2, self.fov[2] // 2)
        self.align: Size = (1, 1, 1)
        self.first_a = nn.Conv3d(2, features, 3, padding=1)
        self.first_b = Conv3d(features, features, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(features) for _ in range(depth - 1)))
        self.last = Conv3d(features, 1, 1)

    def forward(self, fields: Tensor) -> Tensor:
        """Update the belief.

        Args:
            fields: (sample, 2, z, y, x): normalised image, seed in logits; fp32.

        Returns:
            (sample, 1, z, y, x) logits, fp32.
        """
        x = fields.to(self.first_a.weight.dtype)
        x = self.blocks(self.first_b(torch.relu(self.first_a(x))))
        with torch.autocast("cuda" if fields.is_cuda else "cpu", enabled=False):
            update: Tensor = self.last(torch.relu(x).to(self.last.weight.dtype))
        return fields[:, 1:] + update.float()


# --- weights from elsewhere ---------------------------------------------------------------------


def _layers(depth: int) -> dict[str, str]:
    """Our names of the layers -> those of the published networks."""
    names = {"first_a": "conv0_a", "first_b": "conv0_b", "last": "conv_lom"}
    for i in range(1, depth):
        names[f"blocks.{i - 1}.a"] = f"conv{i}_a"
        names[f"blocks.{i - 1}.b"] = f"conv{i}_b"
    return names


def _read_variables(path: Path) -> dict[str, np.ndarray]:
    """Read ``seed_update/<layer>/{weights,biases}`` from an npz or a TensorFlow checkpoint."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError) as error:
            raise TesseraError(f"{path}: cannot be read as an npz of weights ({error})") from None
    try:
        from tensorflow.train import load_checkpoint
    except ImportError:
        raise TesseraError(
            f"{path}: is no .npz, and reading a TensorFlow checkpoint needs tensorflow; install "
            "it, or export the variables to an npz"
        ) from None
    reader = load_checkpoint(str(path))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith("seed_update/") and name.endswith(("/weights", "/biases"))
    }


def import_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Read a published network (github.com/google/ffn, ``convstack_3d``).

    Args:
        path: ``.npz`` of its variables, kernels as (z, y, x, in, out), or the prefix of a
            TensorFlow checkpoint where tensorflow is installed.

    Returns:
        state of an :class:`FFN`, and the options ``depth`` and ``features`` that it was built with.

    Raises:
        TesseraError: if the file is missing, or its variables are not those of such a network.
    """
    path = Path(path)
    variables = _read_variables(path)
    depth = sum(name.endswith("_a/weights") for name in variables)
    state: dict[str, Tensor] = {}
    for ours, theirs in _layers(depth).items():
        try:
            kernel = variables[f"seed_update/{theirs}/weights"]
            bias = variables[f"seed_update/{theirs}/biases"]
        except KeyError as error:
            raise TesseraError(
                f"{path}: holds no variable {error}; give the weights of a flood-filling network"
            ) from None
        state[f"{ours}.weight"] = torch.from_numpy(kernel.transpose(4, 3, 0, 1, 2).copy())
        state[f"{ours}.bias"] = torch.from_numpy(np.array(bias))
    return state, {"depth": depth, "features": int(state["last.weight"].shape[1])}

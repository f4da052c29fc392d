"""A flood-filling network in fp32 on a CPU, by minimal filtering (:mod:`tessera.nets.winograd`).

Convolutions of 3 x 3 x 3 are all that such a network computes. The results differ from those of
plain convolutions by rounding alone (about 2e-5 of a logit after 24 layers).
"""

from __future__ import annotations

import numpy as np
import torch

from tessera.nets import winograd, winograd_code
from tessera.nets.ffn import FFN


def fits(net: FFN) -> bool:
    """True if the network's features fill whole vectors."""
    return winograd.fits(net.first_b.weight)


class Winograd:
    """A network made ready; call it as the network itself.

    Args:
        net: fp32, on the CPU; see :func:`fits`.
        threads: that share the tiles.
    """

    def __init__(self, net: FFN, threads: int = 1) -> None:
        self._first, self._threads = net.first_a, max(1, threads)
        layers = [net.first_b]
        for block in net.blocks:
            layers += [block.a, block.b]  # type: ignore[list-item]
        self._layers = [(winograd.transform(layer.weight), layer.bias) for layer in layers]
        self._weight = net.last.weight.detach().reshape(-1).numpy()
        assert net.last.bias is not None
        self._bias = float(net.last.bias[0])

    def __call__(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (sample, 2, z, y, x), image and seed, to (sample, 1, z, y, x), the update added."""
        return torch.stack([self._one(field[None]) for field in fields])

    def _one(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (1, 2, z, y, x) to (1, z, y, x)."""
        x = self._first(fields).permute(0, 2, 3, 4, 1)
        (kernel, bias), *rest = self._layers
        x = winograd.convolve(x, kernel, bias, self._threads, relu_in=True)
        for (a, bias_a), (b, bias_b) in zip(rest[::2], rest[1::2], strict=True):
            y = winograd.convolve(x, a, bias_a, self._threads, relu_in=True)
            winograd.convolve(y, b, bias_b, self._threads, relu_in=True, beside=x, out=x)
        out = np.empty(fields.shape[2:], np.float32)
        seed = fields[0, 1].contiguous().numpy()
        winograd_code.finish(x[0].numpy(), self._weight, self._bias, seed, out)
        return torch.from_numpy(out)[None]

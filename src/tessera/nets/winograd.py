"""A flood-filling network in fp32 on a CPU, by minimal filtering: a sixth of the multiplications.

Convolutions of 3 x 3 x 3 are all that such a network computes. Of each tile of 3 x 3 x 3 results
along each axis (Winograd's F(3, 3); Lavin 2016, doi:10.1109/CVPR.2016.435)::

    5 inputs  --B-->  5 values,  times the 5 values of the kernel (G),  --A-->  3 results

so 125 products take the place of 729. They are matrix products over the channels, 125 small ones
a layer, and all else are sums. Rows of tiles go from end to end a few at a time, so what lies
between stays in the cache.

The results differ from those of plain convolutions by rounding alone (about 2e-5 of a logit after
24 layers). They are the same for any number of threads: a row of tiles is computed by one thread.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from tessera.nets import winograd_code as code
from tessera.nets.ffn import FFN

KERNEL = np.array(  # G: from 3 taps to 5 values, for the points 0, 1, -1, 2 and infinity
    [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3],
     [0, 0, 1]]
)  # fmt: skip


def fits(net: FFN) -> bool:
    """True if the network's features fill whole vectors."""
    features = net.last.in_channels
    return features % code.LANES == 0


class Winograd:
    """A network made ready; call it as the network itself.

    Args:
        net: fp32, on the CPU; see :func:`fits`.
        threads: that share the rows of tiles.
    """

    def __init__(self, net: FFN, threads: int = 1) -> None:
        self._features = net.last.in_channels
        self._first = net.first_a
        layers = [net.first_b]
        for block in net.blocks:
            layers += [block.a, block.b]  # type: ignore[list-item]
        self._kernels = [_transformed(layer.weight) for layer in layers]
        self._biases = [np.tile(_numpy(layer.bias), net.fov[2]) for layer in layers]
        self._last = _numpy(net.last.weight).reshape(-1), float(_numpy(net.last.bias)[0])
        self._fov = net.fov
        tiles = [-(-n // 3) for n in net.fov]
        self._rows = tiles[0] * tiles[1]
        # A border of zeros, and of more zeros where the last tile stands over.
        padded = (3 * tiles[0] + 2, 3 * tiles[1] + 2, (3 * tiles[2] + 2) * self._features)
        self._maps = [np.zeros(padded, np.float32) for _ in range(2)]
        self._threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._scratch = [_Scratch(tiles[2], self._features) for _ in range(self._threads)]

    def __call__(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (sample, 2, z, y, x), image and seed, to (sample, 1, z, y, x), the update added."""
        return torch.stack([self._one(field[None]) for field in fields])

    def _one(self, fields: torch.Tensor) -> torch.Tensor:
        """Map (1, 2, z, y, x) to (1, z, y, x)."""
        x, y = self._maps
        z_, y_, x_ = self._fov
        first = self._first(fields).permute(0, 2, 3, 4, 1)[0]
        x[1 : z_ + 1, 1 : y_ + 1, self._features : (x_ + 1) * self._features] = (
            first.contiguous().numpy().reshape(z_, y_, -1)
        )
        self._layer(0, x, y, False)
        x, y = y, x
        for number in range(1, len(self._kernels), 2):
            self._layer(number, x, y, False)
            self._layer(number + 1, y, x, True)
        out = np.empty(self._fov, np.float32)
        code.finish(x, *self._last, self._features, fields[0, 1].contiguous().numpy(), out)
        return torch.from_numpy(out)[None]

    def _layer(self, number: int, given: np.ndarray, out: np.ndarray, add: bool) -> None:
        work = code.convolution(self._features)
        ends = np.linspace(0, self._rows, self._threads + 1).astype(int).tolist()
        jobs = [
            (given, self._kernels[number], self._biases[number], out, self._fov, add, a, b, *s.all)
            for a, b, s in zip(ends, ends[1:], self._scratch, strict=False)
        ]
        if self._pool is None:
            work(*jobs[0])
        else:
            for done in [self._pool.submit(work, *job) for job in jobs]:
                done.result()


class _Scratch:
    """What one thread keeps between the steps of a row of ``tiles`` tiles."""

    def __init__(self, tiles: int, features: int) -> None:
        width, group = (3 * tiles + 2) * features, code.together(features)
        places = -(-code.ROWS * tiles // group) * group  # the last group may stand over
        values = np.zeros((125, places, features), np.float32)
        self.all = (
            np.zeros((5, 5, width), np.float32),
            np.zeros((5, width), np.float32),
            values,
            np.zeros_like(values),
        )


def _numpy(given: torch.Tensor | None) -> np.ndarray:
    assert given is not None
    return np.asarray(given.detach().float().contiguous().numpy())


def _transformed(weight: torch.Tensor) -> np.ndarray:
    """Turn kernels (out, in, 3, 3, 3) into float32 (125, in, out)."""
    kernels = weight.detach().double().numpy()
    values = np.einsum("oizyx,az,by,cx->abcio", kernels, KERNEL, KERNEL, KERNEL, optimize=True)
    return np.ascontiguousarray(values.reshape(125, *values.shape[3:]), np.float32)

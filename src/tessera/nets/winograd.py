"""Convolutions of 3 x 3 x 3 in fp32 on a CPU, by minimal filtering: a sixth of the multiplications.

Of each tile of 3 x 3 x 3 results, along each axis (Winograd's F(3, 3); Lavin 2016,
doi:10.1109/CVPR.2016.435)::

    5 inputs  --B-->  5 values,  times the 5 values of the kernel (G),  --A-->  3 results

so 125 products take the place of 729. They are matrix products over the channels, 125 small ones a
patch of tiles, and all else are sums.

The results differ from those of plain convolutions by rounding alone (at most about 2e-5 of their
spread). They are the same for any number of threads and samples: each tile is computed by one
thread, and its sums have one order; where tiles begin follows the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tessera.compute.threads import share_rows
from tessera.nets import vectors
from tessera.nets import winograd_code as code

KERNEL = np.array(  # G: from 3 taps to 5 values, for the points 0, 1, -1, 2 and infinity
    [[1 / 2, 0, 0], [-1 / 2, -1 / 2, -1 / 2], [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3],
     [0, 0, 1]]
)  # fmt: skip
CUBE = torch.from_numpy(np.kron(np.kron(KERNEL, KERNEL), KERNEL))  # along z, y and x: (125, 27)
_SCRATCH = 2**16  # values of a plane of a patch: 25 rows of it stay in the cache


def fits(weight: Tensor) -> bool:
    """True if kernels (out, in, z, y, x) are 3 x 3 x 3 and their channels fill whole vectors."""
    outputs, inputs, *size = weight.shape
    return size == [3, 3, 3] and outputs % vectors.LEAST == 0 and inputs % vectors.LEAST == 0


@dataclass(frozen=True)
class Kernel:
    """Transformed kernels.

    Attributes:
        values: (125, part, inputs, lanes), a part of the outputs in one place.
        inputs, outputs: channels.
    """

    values: np.ndarray
    inputs: int
    outputs: int


def transform(weight: Tensor) -> Kernel:
    """Turn kernels (out, in, 3, 3, 3) that fit into what :func:`convolve` takes."""
    outputs, inputs = weight.shape[:2]
    lanes = vectors.part(outputs)
    taps = weight.detach().reshape(outputs // lanes, lanes, inputs, 27).permute(3, 0, 2, 1)
    values = CUBE @ taps.reshape(27, -1).double()
    return Kernel(
        values.float().view(125, outputs // lanes, inputs, lanes).numpy(), inputs, outputs
    )


def convolve(
    given: Tensor | Sequence[Tensor],
    kernel: Kernel,
    bias: Tensor | None = None,
    threads: int = 1,
    *,
    pad: int = 1,
    relu_in: bool = False,
    slope: float = 1.0,
    beside: Tensor | None = None,
    slope_of_sum: float = 1.0,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve maps (sample, z, y, x, channels), float32.

    Args:
        given: a map, or several that are joined along their channels. Their voxels along x lie one
            after another; else they may be parts of larger maps.
        kernel: see :func:`transform`.
        bias: of each output, or None.
        threads: that share the patches.
        pad: 1 keeps the size, as zeros stand around the map; 0 returns two voxels fewer.
        relu_in: of the maps, before all else.
        slope: of negative results: 0 is a ReLU, 1 nothing.
        beside: a map that is then added, or None.
        slope_of_sum: of negative sums with it, last of all.
        out: where the result goes, contiguous; may be ``beside`` itself.

    Returns:
        (sample, z, y, x, outputs), contiguous; ``out`` if it was given.
    """
    maps = [_rows(m.detach()) for m in ([given] if isinstance(given, Tensor) else given)]
    samples, *voxels, _ = maps[0].shape
    size = (voxels[0], voxels[1], voxels[2])
    made = (samples, *(n + 2 * pad - 2 for n in size), kernel.outputs)
    assert sum(m.shape[4] for m in maps) == kernel.inputs
    if out is None:
        out = empty(made)
    assert tuple(out.shape) == made and out.is_contiguous()
    added, steps = _line(beside)
    assert beside is None or tuple(beside.shape) == made
    sources = np.array(
        [
            (m.data_ptr(), 4 * m.stride(1), 4 * m.stride(2), m.shape[4], 4 * m.stride(0))
            for m in maps
        ],
        np.int64,
    )
    rows, across, count = _patches(made, kernel, threads)
    wide = np.zeros(kernel.outputs) if bias is None else bias.detach().numpy()
    wide = np.tile(wide.astype(np.float32), 3 * across)
    target = out.numpy().reshape(*made[:3], -1)

    def work(span: tuple[int, int]) -> None:
        scratch = _scratch(rows, across, kernel.inputs, kernel.outputs)
        code.convolve(
            sources, size, pad, kernel.values, wide, target, relu_in, slope, added, steps,
            slope_of_sum, span, (rows, across), *scratch,
        )  # fmt: skip

    share_rows(work, count, threads)
    return out


def empty(shape: Sequence[int]) -> Tensor:
    """Return a float32 tensor in huge pages, as NumPy asks for them and torch does not.

    What is written once costs four times as much in pages of 4 KiB.
    """
    return torch.from_numpy(np.empty(shape, np.float32))


def _rows(given: Tensor) -> Tensor:
    """The map itself if its rows along x are contiguous, else a copy."""
    channels = given.shape[4]
    plain = given.dtype == torch.float32 and given.stride(4) == 1 and given.stride(3) == channels
    return given if plain else given.float().contiguous()


def _line(beside: Tensor | None) -> tuple[np.ndarray, tuple[int, int, int]]:
    """All values from a map's first to its last, and how far samples, planes and rows are apart."""
    if beside is None:
        return np.empty(0, np.float32), (0, 0, 0)
    rows = _rows(beside.detach())
    sample, plane, row = rows.stride()[:3]
    last = sum((n - 1) * step for n, step in zip(rows.shape, rows.stride(), strict=True))
    return rows.as_strided((last + 1,), (1,)).numpy(), (sample, plane, row)


def _patches(made: tuple[int, ...], kernel: Kernel, threads: int) -> tuple[int, int, int]:
    """Rows of tiles in a patch, tiles along x, and how many patches there are."""
    samples, *tiles = made[0], *(-(-n // 3) for n in made[1:4])
    most = max(1, _SCRATCH // (25 * 3 * max(kernel.inputs, kernel.outputs)))
    parts = -(-tiles[2] // most)
    across = -(-tiles[2] // parts)
    lines = tiles[0] * tiles[1]
    share = -(-lines * parts * samples // threads)  # so that no thread is without work
    rows = max(1, min(code.PLACES // across, share))
    return rows, across, samples * parts * -(-lines // rows)


def _scratch(rows: int, across: int, inputs: int, outputs: int) -> tuple[np.ndarray, ...]:
    """What one thread keeps between the steps of a patch."""
    places = vectors.whole(rows * across, outputs)
    most, width = max(inputs, outputs), 3 * across + 2
    return (
        np.empty((125, places, inputs), np.float32),
        np.empty((125, places, outputs), np.float32),
        np.empty((25, width * most), np.float32),
        np.empty((9, width * most), np.float32),
        np.zeros(width * inputs, np.float32),
    )

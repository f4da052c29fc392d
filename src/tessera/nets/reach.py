"""How far a network sees: intervals of indices, pushed from the output back to the input.

Each layer says which interval of its input an interval of its output needs, along one axis. All
layers here are symmetric in z, y, x up to their sizes, so an axis is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable

Interval = tuple[int, int]  # first and last index, both included
Needs = Callable[[Interval], Interval]


def conv(kernel: int, stride: int = 1, padding: int | None = None) -> Needs:
    """What a convolution needs; the padding defaults to that which keeps the size."""
    pad = kernel // 2 if padding is None else padding
    return lambda i: (i[0] * stride - pad, i[1] * stride - pad + kernel - 1)


def pool(stride: int) -> Needs:
    """What pooling over windows of ``stride`` needs."""
    return conv(stride, stride, 0)


def transposed(kernel: int, stride: int, padding: int = 0) -> Needs:
    """What a transposed convolution needs: output o = stride * i - padding + k."""
    return lambda i: (-((kernel - 1 - padding - i[0]) // stride), (i[1] + padding) // stride)


def union(a: Interval, b: Interval) -> Interval:
    """Return the interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def radius(needs: Needs, align: int) -> int:
    """Return the largest distance from an output voxel to an input voxel that it sees.

    It is taken over all phases of the coarse grid, and rounded up to a multiple of ``align``, so
    that a block that starts on the grid still does so with its halo.
    """
    far = 0
    for voxel in range(align):
        first, last = needs((voxel, voxel))
        far = max(far, voxel - first, last - voxel)
    return -(-far // align) * align

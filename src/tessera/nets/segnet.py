"""SegNet (Badrinarayanan 2017, doi:10.1109/TPAMI.2016.2644615).

Encoder and decoder mirror each other; the decoder puts each value back where the encoder's max
pooling took it from (*index unpooling*), which keeps edges sharp without carrying features across.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from tessera.nets import reach
from tessera.nets.norm import start
from tessera.nets.unet3d import Size, conv_unit, triple


class SegNet(nn.Module):
    """SegNet; input (sample, 1, z, y, x), output logits (sample, outputs, z, y, x).

    Args:
        outputs: number of output channels.
        channels: features of each level, finest first.
        stride: pooling factor (or z, y, x factors) of every level.
        kernel: size of the convolutions (or z, y, x sizes, odd).
        convs: convolutions at each level, on each side.
        norm: ``batch`` (frozen and folded at inference) or ``none``.
    """

    def __init__(
        self,
        outputs: int,
        channels: Sequence[int],
        stride: int | Sequence[int] = 2,
        kernel: int | Sequence[int] = 3,
        convs: int = 2,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise ValueError(f"norm is 'batch' or 'none', not {norm!r}")
        self.stride, self.kernel, self.convs = triple(stride), triple(kernel), convs
        if any(k % 2 == 0 for k in self.kernel):
            raise ValueError(f"kernels are odd, not {self.kernel}")
        self.levels = len(channels)
        self.align: Size = triple([s**self.levels for s in self.stride])
        self.halo: Size = triple([reach.radius(self._needs(a), self.align[a]) for a in range(3)])
        self.encode, self.decode = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(channels):
            before = channels[level - 1] if level else 1
            after = channels[level - 1] if level else channels[0]
            self.encode.append(self._side(before, width, width, norm))
            self.decode.append(self._side(width, width, after, norm))
        self.head = nn.Conv3d(channels[0], outputs, 1)
        start(self)

    def _side(self, inputs: int, inner: int, outputs: int, norm: str) -> nn.Sequential:
        widths = [inputs] + [inner] * (self.convs - 1) + [outputs]
        return nn.Sequential(
            *(conv_unit(a, b, self.kernel, norm) for a, b in zip(widths, widths[1:], strict=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; each axis of ``x`` must be a multiple of ``align``."""
        places: list[Tensor] = []
        for encode in self.encode:
            x, place = functional.max_pool3d_with_indices(encode(x), self.stride)
            places.append(place)
        for level in range(self.levels - 1, -1, -1):
            x = self.decode[level](functional.max_unpool3d(x, places[level], self.stride))
        logits: Tensor = self.head(x)
        return logits

    def _needs(self, axis: int) -> reach.Needs:
        step = self.stride[axis]

        def side(i: reach.Interval) -> reach.Interval:
            for _ in range(self.convs):
                i = reach.conv(self.kernel[axis])(i)
            return i

        def level(n: int, i: reach.Interval) -> reach.Interval:
            if n == self.levels:
                return i
            # A value is put back by its window's maximum, so the whole window decides.
            below = level(n + 1, reach.transposed(step, step)(side(i)))
            return side(reach.pool(step)(below))

        return lambda i: level(0, i)

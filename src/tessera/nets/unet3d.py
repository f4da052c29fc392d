"""U-Net in three dimensions.

Ronneberger 2015 (doi:10.1007/978-3-319-24574-4_28), Çiçek 2016 (doi:10.1007/978-3-319-46723-8_49):
a contracting and an expanding path with a skip at each level. ``residual=False`` is the paper's
block (double convolution, max pooling); ``residual=True`` adds each block's input to its output
(He 2016, doi:10.1109/CVPR.2016.90) and pools by a strided convolution. Two departures: sizes are
kept by padding, as the halo makes the padding invisible; and a *stem* may take the finest level to
half resolution, where a voxel costs an eighth, with logits brought back by one transposed
convolution::

    voxels --stem--> level 0 ------------------------> level 0 --head--> logits
                        \\--down--> level 1 --> level 1 --up--/
                                      \\-- ... --/

``detail`` gives thin things, such as membranes, back what the stem takes from them: the head then
makes features, which one more skip joins with features of the voxels at their own resolution::

    level 0 --head--> features \\
    voxels -----conv---------> detail --conv--> features --1 x 1 x 1--> logits
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat, nn

from tessera.nets import reach
from tessera.nets.conv import Conv3d
from tessera.nets.norm import BatchNorm, start

Size = tuple[int, int, int]


def triple(value: int | Sequence[int]) -> Size:
    """Return (z, y, x) sizes from one or three."""
    z, y, x = (value,) * 3 if isinstance(value, int) else value
    return int(z), int(y), int(x)


def conv_unit(inputs: int, outputs: int, kernel: Size, norm: str, relu: bool = True) -> nn.Module:
    """Convolution that keeps the size, then norm unless it is ``none``, then ReLU."""
    padding = triple([k // 2 for k in kernel])
    layers: list[nn.Module] = [
        Conv3d(inputs, outputs, kernel, padding=padding, bias=norm == "none")
    ]
    if norm != "none":
        layers.append(BatchNorm(outputs))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Block(nn.Module):
    """``convs`` convolutions; their input is added to their output if ``residual``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Size, convs: int, norm: str, residual: bool
    ) -> None:
        super().__init__()
        self.units = nn.Sequential(
            *(
                conv_unit(
                    inputs if i == 0 else outputs,
                    outputs,
                    kernel,
                    norm,
                    relu=not residual or i + 1 < convs,
                )
                for i in range(convs)
            )
        )
        self.residual = residual
        self.skip = Conv3d(inputs, outputs, 1) if residual and inputs != outputs else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, inputs, z, y, x) to (sample, outputs, z, y, x)."""
        if not self.residual:
            return self.units(x)
        return self.relu(self.units(x) + self.skip(x))


class UNet3d(nn.Module):
    """U-Net; input (sample, 1, z, y, x), output logits (sample, outputs, z, y, x).

    Args:
        outputs: number of output channels.
        channels: features of each level, finest first.
        stem: factor (or z, y, x factors, each 1, 2 or 4) between the voxels and level 0.
        strides: factor between each level and the next; an anisotropic volume gives e.g.
            ``[[1, 2, 2], [2, 2, 2]]``. Default 2 everywhere.
        kernel: size of the convolutions (or z, y, x sizes, odd).
        convs: convolutions in a block.
        residual: add a block's input to its output, and pool by strided convolutions.
        norm: ``plain`` normalises the convolutions that no sum with a block's input passes by:
            those of ``detail``, and all if not ``residual``; ``batch`` normalises all, ``none``
            none. A norm is frozen at inference, and folded into its convolution. Residual branches
            without one begin as nothing, see :func:`still`.
        detail: features at the voxels' resolution beside a stem that halves; 0 is none.
    """

    def __init__(
        self,
        outputs: int,
        channels: Sequence[int],
        stem: int | Sequence[int] = 2,
        strides: Sequence[int | Sequence[int]] | None = None,
        kernel: int | Sequence[int] = 3,
        convs: int = 2,
        residual: bool = True,
        norm: str = "plain",
        detail: int = 0,
    ) -> None:
        super().__init__()
        steps = [triple(s) for s in (strides or [2] * (len(channels) - 1))]
        if len(steps) != len(channels) - 1:
            raise ValueError(f"{len(channels)} levels need {len(channels) - 1} strides")
        self.stem_by, self.steps, self.kernel, self.convs = (
            triple(stem),
            steps,
            triple(kernel),
            convs,
        )
        if any(f not in (1, 2, 4) for f in self.stem_by):
            raise ValueError(f"the stem's factors are 1, 2 or 4, not {self.stem_by}")
        if detail and max(self.stem_by) == 1:
            raise ValueError("detail goes beside a stem of 2 or 4; with a stem of 1 it is there")
        if any(k % 2 == 0 for k in self.kernel):
            raise ValueError(f"kernels are odd, not {self.kernel}")
        if norm not in ("plain", "batch", "none"):
            raise ValueError(f"norm is 'plain', 'batch' or 'none', not {norm!r}")
        within = "none" if norm == "plain" and residual else norm  # of the blocks
        self.detailed = detail > 0
        self.align = triple([self._product(a) for a in range(3)])
        self.halo = triple([reach.radius(self._needs(a), self.align[a]) for a in range(3)])

        size, pad = self._window()
        first = channels[0]
        self.stem = nn.Conv3d(1, first, size, stride=self.stem_by, padding=pad)
        self.down, self.encode = nn.ModuleList(), nn.ModuleList()
        self.up, self.decode = nn.ModuleList(), nn.ModuleList()
        self.relu = nn.ReLU(inplace=True)
        for level, width in enumerate(channels):
            before = channels[max(level - 1, 0)]
            if level and residual:
                self.down.append(
                    nn.Conv3d(before, before, steps[level - 1], stride=steps[level - 1])
                )
            elif level:
                self.down.append(nn.MaxPool3d(steps[level - 1]))
            self.encode.append(Block(before, width, self.kernel, convs, within, residual))
            if level:
                self.up.append(
                    nn.ConvTranspose3d(width, before, steps[level - 1], stride=steps[level - 1])
                )
                self.decode.append(Block(2 * before, before, self.kernel, convs, within, residual))
        self.head: nn.Module = (
            Conv3d(first, outputs, 1)
            if max(self.stem_by) == 1
            else nn.ConvTranspose3d(first, detail or outputs, size, self.stem_by, pad)
        )
        if detail:
            self.detail = conv_unit(1, detail, self.kernel, norm)
            self.merge = conv_unit(2 * detail, detail, self.kernel, norm)
            self.last = Conv3d(detail, outputs, 1)
        start(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; each axis of ``x`` must be a multiple of ``align``."""
        voxels = x
        x = self.relu(self.stem(voxels))
        skips: list[Tensor] = []
        for level, encode in enumerate(self.encode):
            if level:
                skips.append(x)
                x = self.down[level - 1](x)
            x = encode(x)
        for level in range(len(skips) - 1, -1, -1):
            x = self.decode[level](cat([self.up[level](x), skips[level]], 1))
        made: Tensor = self.head(x)
        if self.detailed:
            made = self.merge(cat([self.relu(made), self.detail(voxels)], 1))
            made = self.last(made)
        return made

    def _window(self) -> tuple[Size, Size]:
        """Kernel and padding of the stem and of the head that mirrors it."""
        sides = list(zip(self.kernel, self.stem_by, strict=True))
        size = triple([k if f == 1 else 2 * f for k, f in sides])
        pad = triple([k // 2 if f == 1 else f // 2 for k, f in sides])
        return size, pad

    def _product(self, axis: int) -> int:
        total = self.stem_by[axis]
        for step in self.steps:
            total *= step[axis]
        return total

    def _needs(self, axis: int) -> reach.Needs:
        size, pad = self._window()
        stem = reach.conv(size[axis], self.stem_by[axis], pad[axis])
        wide = max(self.stem_by) > 1
        head = reach.transposed(size[axis], self.stem_by[axis], pad[axis])

        def block(i: reach.Interval) -> reach.Interval:
            for _ in range(self.convs):
                i = reach.conv(self.kernel[axis])(i)
            return i

        def level(n: int, i: reach.Interval) -> reach.Interval:
            """What level n's block needs of level n's input."""
            if n == len(self.steps):
                return block(i)
            step = self.steps[n][axis]
            i = block(i)  # decode
            below = level(n + 1, reach.transposed(step, step)(i))
            return block(reach.union(i, reach.pool(step)(below)))

        if not self.detailed:
            return lambda i: stem(level(0, head(i) if wide else i))
        small = reach.conv(self.kernel[axis])

        def detailed(i: reach.Interval) -> reach.Interval:
            features = small(i)
            return reach.union(stem(level(0, head(features))), small(features))

        return detailed


def still(net: nn.Module) -> None:
    """Let residual branches without a norm begin as nothing, so that depth does not raise values.

    Each block is then its skip alone, and learns what to add (Zhang 2019, arXiv:1901.09321; in
    networks of this depth a last convolution of zeros is all it takes). For a training to call.
    """
    for block in net.modules():
        if isinstance(block, Block) and block.residual:
            last = block.units[-1]
            assert isinstance(last, nn.Sequential)
            if not any(isinstance(layer, BatchNorm) for layer in last):
                nn.init.zeros_(last[0].weight)  # type: ignore[arg-type]

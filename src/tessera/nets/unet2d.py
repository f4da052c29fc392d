"""U-Net in two dimensions, for thick sections and flat data (Ronneberger 2015,
doi:10.1007/978-3-319-24574-4_28).

It is the three-dimensional network with kernels and strides of 1 along z: every plane is seen by
itself, and what reads, samples and predicts needs no second kind of network.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessera.nets.unet3d import UNet3d


class UNet2d(UNet3d):
    """U-Net on planes; input (sample, 1, z, y, x), output (sample, outputs, z, y, x).

    Args:
        outputs: number of output channels.
        channels: features of each level, finest first.
        stem: factor (1, 2 or 4) between the voxels and level 0, in y and x.
        convs: convolutions in a block.
        residual: see :class:`~tessera.nets.unet3d.UNet3d`.
        norm: see :class:`~tessera.nets.unet3d.UNet3d`.
    """

    def __init__(
        self,
        outputs: int,
        channels: Sequence[int],
        stem: int = 1,
        convs: int = 2,
        residual: bool = False,
        norm: str = "plain",
    ) -> None:
        super().__init__(
            outputs,
            channels,
            stem=(1, stem, stem),
            strides=[(1, 2, 2)] * (len(channels) - 1),
            kernel=(1, 3, 3),
            convs=convs,
            residual=residual,
            norm=norm,
        )

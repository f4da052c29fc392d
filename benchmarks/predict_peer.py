"""MONAI: its U-Net as a network of ours, and its sliding window from Zarr to Zarr.

Needs ``monai`` (requirements-bench.txt). The network is registered as ``monai`` with one line, and
what it sees and its grid are found from its graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import Tensor, nn

from tessera.nets.bundle import Bundle
from tessera.nets.registry import NETWORKS
from tessera.predict.trim import Spans, Trimmed, Untrimmable
from tessera.volume.box import Box
from tessera.volume.store import Layout, create_volume, open_volume

NETWORKS["monai"] = "predict_peer:MonaiUNet"


class MonaiUNet(nn.Module):
    """MONAI's residual U-Net with batch norm; ``channels`` of each level, strides of 2."""

    def __init__(self, outputs: int, channels: Sequence[int], norm: str = "batch") -> None:
        super().__init__()
        self.net = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=outputs,
            channels=tuple(channels),
            strides=(2,) * (len(channels) - 1),
            num_res_units=2,
            norm="batch",
        )
        side = 2 ** (len(channels) - 1)
        self.align = (side, side, side)
        self.halo = (_reach(self.net, side),) * 3

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, 1, z, y, x) to logits."""
        logits: Tensor = self.net(x)
        return logits


def _reach(net: nn.Module, side: int) -> int:
    """The least halo, on the grid, within which all that a block depends on lies."""
    trimmed = Trimmed(net.eval())
    for halo in range(side, 40 * side, side):
        span = (halo, halo + side)
        wanted: Spans = (span, span, span)
        try:
            trimmed.spans((2 * halo + side,) * 3, wanted)
        except Untrimmable:
            continue
        return halo
    raise AssertionError("it sees further than anyone would read")


def slide(model: Bundle, volume: Path, out: Path, roi: int = 64, batch: int = 4) -> None:
    """Predict a volume as with MONAI: Zarr to Zarr, probabilities in steps of 1/255."""
    source = open_volume(volume)
    raw = torch.from_numpy(source.read(Box.whole(source.shape)))
    infer = SlidingWindowInferer((roi,) * 3, batch, overlap=0.25, mode="gaussian")
    with torch.inference_mode():
        logits: Any = infer(model.normalise(raw)[None, None], model.net)
        made = model.probabilities(logits)[0]
    stored = np.rint(made.numpy() * 255).astype(np.uint8)
    layout = Layout(source.shape, "uint8", source.voxel_um, channels=model.classes)
    create_volume(out, layout).write(Box.whole(source.shape), stored, torch.get_num_threads())

"""Which networks there are: one file and one line each.

A network is a torch module that takes (sample, 1, z, y, x) and returns (sample, channel, z, y, x)
logits of the same size, and that knows two facts about itself:

- ``align`` (z, y, x): block starts and sizes must be multiples of it, so that the coarse grids
  inside the network fall on the same voxels whatever the block;
- ``halo`` (z, y, x): the receptive field's radius, a multiple of ``align``. An output voxel that
  is at least this far from the edge of what the network was given depends on real voxels alone.

At inference the output is a function of the receptive field and of nothing else: no statistic is
taken over what happens to be in the block.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from tessera.errors import TesseraError

# name in the config -> "module:class"
NETWORKS = {
    "unet3d": "tessera.nets.unet3d:UNet3d",
    "unet2d": "tessera.nets.unet2d:UNet2d",
    "segnet": "tessera.nets.segnet:SegNet",
    "ffn": "tessera.nets.ffn:FFN",
    "ensemble": "tessera.nets.ensemble:Ensemble",
}


def build(
    name: str, outputs: int, channels: Sequence[int], options: dict[str, Any] | None = None
) -> nn.Module:
    """Make a network with fresh weights.

    Args:
        name: one of :data:`NETWORKS`.
        outputs: number of output channels.
        channels: features of each level.
        options: what only this network knows; see its own file.

    Raises:
        TesseraError: if there is no such network, or an option that it does not know.
    """
    if name not in NETWORKS:
        raise TesseraError(f"no network is called '{name}'; take one of {', '.join(NETWORKS)}")
    module, kind = NETWORKS[name].split(":")
    network = getattr(importlib.import_module(module), kind)
    try:
        made = network(outputs=outputs, channels=tuple(channels), **(options or {}))
    except (TypeError, ValueError) as error:
        raise TesseraError(
            f"network '{name}' cannot be built: {error}; see docs/train.md"
        ) from None
    assert isinstance(made, nn.Module)
    return made

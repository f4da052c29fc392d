"""Validation: the averaged network on the validation boxes, shared among ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tessera.compute.device import Device
from tessera.compute.horovod import Team
from tessera.train.source import Region
from tessera.train.targets import make_target
from tessera.volume.box import Box, Grid

_CONTEXT = 16  # voxels of real context about a validation tile


class Validation:
    """Scores a network on boxes that training does not see.

    Args:
        regions: validation boxes.
        tile: size (z, y, x) of what is scored in one pass.
        classes: names of the output channels.
        target: kind of target.
        align: what tile sizes must be multiples of.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        tile: tuple[int, int, int],
        classes: tuple[str, ...],
        target: str,
        align: tuple[int, int, int],
    ) -> None:
        self._classes, self._target, self._align = classes, target, align
        self._tiles = [
            (region, block.write.shift(region.box.start))
            for region in regions
            for block in Grid.of(region.box.shape, tile)
        ]

    def __bool__(self) -> bool:
        return bool(self._tiles)

    @torch.no_grad()
    def run(self, net: nn.Module, device: Device, team: Team) -> dict[str, float]:
        """Return Dice of each class, and ``score``, their mean without the background."""
        channels = len(self._classes)
        sums = torch.zeros(3, channels, dtype=torch.float64)
        for region, tile in self._tiles[team.rank :: team.size]:
            read = self._read_box(tile, region.source.volume.shape)
            image = torch.from_numpy(region.source.image(read)).to(device.device)
            with device.autocast():
                logits = net(image[None, None].contiguous(memory_format=torch.channels_last_3d))
            logits = logits[(0, slice(None), *tile.inside(read))].float().cpu()
            if self._target == "classes":
                found = torch.nn.functional.one_hot(logits.argmax(0), channels).movedim(-1, 0)
            else:
                found = logits > 0
            labels = torch.from_numpy(region.read(tile)[1])
            wanted, counts = make_target(labels, self._target, channels)
            found = found.double() * counts
            wanted = wanted.double() * counts
            axes = (1, 2, 3)
            sums += torch.stack([(found * wanted).sum(axes), found.sum(axes), wanted.sum(axes)])
        overlap, found_n, wanted_n = team.sum(sums, "validation")
        dice = torch.where(wanted_n + found_n > 0, 2 * overlap / (wanted_n + found_n), 1.0)
        out = {f"dice_{n}": round(float(d), 6) for n, d in zip(self._classes, dice, strict=True)}
        first = 1 if self._target == "classes" else 0
        out["score"] = round(float(dice[first:].mean()), 6)
        return out

    def _read_box(self, tile: Box, shape: tuple[int, int, int]) -> Box:
        """The tile with context, on the network's grid, within the volume, as at inference."""
        start = [
            max((a - _CONTEXT) // n * n, 0) for a, n in zip(tile.start, self._align, strict=True)
        ]
        stop = [
            -(-min(b + _CONTEXT, size) // n) * n
            for b, size, n in zip(tile.stop, shape, self._align, strict=True)
        ]
        return Box.of(tuple(start), tuple(stop))

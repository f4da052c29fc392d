"""What a network computes, counted on shapes alone: torch's ``meta`` device holds no numbers."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tessera.config import Model, Predict
from tessera.volume.box import Triple

if TYPE_CHECKING:
    from torch import nn

    from tessera.predict.memory import Memory
    from tessera.predict.trim import Spans


@dataclass(frozen=True)
class Network:
    """The facts of one model's network that decide its cost.

    Attributes:
        name: in the config, e.g. ``unet3d``.
        halo: voxels (z, y, x) of real context.
        align: what read boxes begin and end at multiples of.
        voxel_bytes: bytes of tensors that live at a time in a forward pass, a voxel.
        parameters: number of weights.
        moves: steps (z, y, x) of a flood-filling network's field of view; empty for any other.
        members: of an ensemble; empty for a single network.
    """

    name: str
    outputs: int
    channels: tuple[int, ...]
    options: str
    halo: Triple
    align: Triple
    voxel_bytes: float
    parameters: int
    moves: tuple[int, ...] = ()
    members: tuple[Network, ...] = ()

    def gflop(self, read: tuple[int, ...], wanted: Spans | None = None) -> float:
        """GFLOP (2 a multiplication) of one pass over ``read`` (z, y, x) voxels.

        Args:
            wanted: of these, as (start, stop) of each axis; None wants all. Layers compute only
                what it needs, as :mod:`tessera.predict.trim` does.
        """
        if self.members:
            return sum(member.gflop(read, wanted) for member in self.members)
        return _gflop(self, read, wanted)


def outputs_of(model: Model) -> int:
    """Number of output channels of a model's network."""
    from tessera.train.targets import output_classes

    return 1 if model.net == "ffn" else len(output_classes(model.target, model.classes))


def network(model: Model) -> Network:
    """Return the facts of a model's network; nothing is trained or allocated.

    Raises:
        TesseraError: if it cannot be built.
    """
    if model.bundle is not None:
        model = _as_bundled(model, model.bundle)
    options = json.dumps(model.net_options, sort_keys=True)
    outputs = outputs_of(model)
    net: Any = _build(model.net, outputs, model.channels, options)
    return Network(
        model.net,
        outputs,
        model.channels,
        options,
        Triple(*getattr(net, "halo", (0, 0, 0))),
        Triple(*getattr(net, "align", (1, 1, 1))),
        _bytes_a_voxel(net, outputs),
        sum(p.numel() for p in net.parameters()),
        tuple(getattr(net, "deltas", ())),
    )


def _as_bundled(model: Model, folder: str) -> Model:
    """The settings as if they named the network that a bundle holds (of an ensemble, one)."""
    from tessera.nets.bundle import read_facts

    net = read_facts(folder)[0].net
    known = {"name": "net", "channels": "channels", "options": "net_options"}
    return model.model_copy(update={known[k]: v for k, v in net.items() if k in known})


def together(members: Sequence[Network]) -> Network:
    """Return the facts of an ensemble: it sees as far as any, and aligns as all do."""
    largest = max(members, key=lambda m: m.voxel_bytes)
    return replace(
        largest,
        halo=Triple(*map(max, *(m.halo for m in members))) if members[1:] else largest.halo,
        align=Triple(*map(math.lcm, *(m.align for m in members))),
        parameters=sum(m.parameters for m in members),
        members=tuple(members),
    )


def compute_block(network: Network, settings: Predict, shape: tuple[int, ...]) -> Triple:
    """Return the write box (z, y, x) of a compute block, as ``tessera predict store`` lays it."""
    from tessera.predict.shape import compute_block as chosen

    return chosen(
        Triple(*shape), Triple(*settings.block), network.halo, memory(network), settings.memory_gib
    )


@functools.lru_cache(maxsize=64)
def memory(network: Network) -> Memory:
    """Return what a block of a network takes; of an ensemble, of its largest member."""
    from tessera.predict.memory import memory_of

    if network.members:
        return max((memory(m) for m in network.members), key=lambda m: m.read + m.write)
    return memory_of(_built(network), network.halo, network.align)


def _bytes_a_voxel(net: nn.Module, outputs: int) -> float:
    """About how many bytes of tensors a forward pass over a whole patch makes, for each voxel.

    Five feature maps of the finest level (the skip, the two that are joined, the joined one and
    what comes of it), logits, probabilities and what is stored, and the image itself; all in single
    precision.
    """
    from torch import nn

    first = next((m for m in net.modules() if isinstance(m, nn.Conv3d)), None)
    coarse = math.prod(first.stride) if first is not None else 1
    features = first.out_channels if first is not None else outputs
    return 4.0 * (5 * features / coarse + 3 * outputs + 4)


def _build(name: str, outputs: int, channels: tuple[int, ...], options: str) -> nn.Module:
    import torch

    from tessera.nets.registry import build

    with torch.device("meta"):
        return build(name, outputs, channels, json.loads(options)).eval()


def _built(network: Network) -> nn.Module:
    return _build(network.name, network.outputs, network.channels, network.options)


@functools.lru_cache(maxsize=64)
def _gflop(network: Network, read: tuple[int, ...], wanted: Spans | None) -> float:
    import torch

    from tessera.nets.watch import Watch
    from tessera.predict.trim import Trimmed, Untrimmable

    convolution = torch.ops.aten.convolution.default
    flop = 0.0

    def count(function: Any, args: Any, out: Any) -> None:
        # Beside convolutions nothing counts; torch's own counter of all loads for three seconds.
        nonlocal flop
        if function is convolution:
            image, weight, transposed = args[0], args[1], args[6]
            # Each voxel of the output, or of a transposed one's input, meets each weight.
            places = image if transposed else out
            flop += 2.0 * weight.numel() * places.numel() / places.shape[1]

    net: Any = _built(network)
    inputs = 2 if network.name == "ffn" else 1  # image and seed
    image = torch.empty((1, inputs, *read), device="meta")
    with torch.no_grad(), Watch(count):
        if wanted is None or network.name == "ffn":
            net(image)
        else:
            try:
                Trimmed(net, padded=True)(image, wanted)
            except Untrimmable:
                net(image)
    return flop / 1e9

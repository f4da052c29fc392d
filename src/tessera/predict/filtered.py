"""A network's graph, rewritten for inference in fp32 on a CPU.

Feature maps of the finest level are larger than any cache, so a layer that does little costs as
much as one that does much: bringing them from memory and back is the work. So

- a frozen batch norm goes into the convolution before it;
- a convolution of 3 x 3 x 3 is computed by minimal filtering (:mod:`tessera.nets.winograd`), if its
  channels fill whole vectors;
- a convolution of few input channels, such as the first, is computed from columns
  (:mod:`tessera.nets.columns`);
- a transposed convolution to few channels, such as the last, is computed by its phases
  (:mod:`tessera.nets.phases`);
- all but the last of these take the ReLU after them along (a leaky ReLU of one slope is one, too),
  and those of minimal filtering the joining of channels before them.

The graph computes what it did but for rounding. Which layers are rewritten follows from the network
alone, so every job of a volume computes the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tessera.nets import columns, phases, winograd


class Filtered(nn.Module):
    """A convolution without padding, by minimal filtering, and what bends its result.

    Args:
        conv: see :func:`suits`.
        slope: of negative results: 0 is a ReLU, 1 nothing.
    """

    def __init__(self, conv: nn.Conv3d, slope: float) -> None:
        super().__init__()
        self._kernel, self._bias, self._slope = winograd.transform(conv.weight), conv.bias, slope

    def forward(self, *maps: Tensor) -> Tensor:
        """Map (sample, channel, z, y, x), joined along the channels, to two voxels fewer."""
        last = [m.permute(0, 2, 3, 4, 1) for m in maps]
        threads = torch.get_num_threads()
        made = winograd.convolve(last, self._kernel, self._bias, threads, pad=0, slope=self._slope)
        return made.permute(0, 4, 1, 2, 3)


class First(nn.Module):
    """A convolution of few input channels, without padding, and what bends its result."""

    def __init__(self, conv: nn.Conv3d, slope: float) -> None:
        super().__init__()
        self._columns = columns.Columns(conv, slope)
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.padding, self.dilation = conv.padding, conv.dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, channel, z, y, x)."""
        made = self._columns(x.permute(0, 2, 3, 4, 1), torch.get_num_threads())
        return made.permute(0, 4, 1, 2, 3)


class Last(nn.Module):
    """A transposed convolution to few channels, without padding.

    Attributes:
        conv: the layer itself, which knows its sizes.
    """

    def __init__(self, conv: nn.ConvTranspose3d) -> None:
        super().__init__()
        self._phases, self.conv = phases.Phases(conv), conv

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, channel, z, y, x)."""
        made = self._phases(x.permute(0, 2, 3, 4, 1), torch.get_num_threads())
        return made.permute(0, 4, 1, 2, 3)


def suits(conv: nn.Conv3d) -> bool:
    """True if a layer can be a :class:`Filtered`."""
    return (
        winograd.fits(conv.weight)
        and (*conv.stride, *conv.dilation, *conv.padding, conv.groups) == (1,) * 10
    )


def rewrite(graph: fx.Graph, modules: dict[str, nn.Module]) -> int:
    """Rewrite a graph in place; return how many convolutions are by minimal filtering.

    Args:
        graph: of a network in eval mode.
        modules: of the network by name; new ones are added, none is changed.
    """
    count = 0
    for node in list(graph.nodes):
        conv = _module(node, modules)
        if not isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) or conv.padding_mode != "zeros":
            continue
        while (after := _only_user(node)) is not None:
            norm = _module(after, modules)
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                conv = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose3d))
            elif not isinstance(norm, nn.Identity | nn.Dropout | nn.Dropout3d):
                break
            _merge(graph, node, after)
        if isinstance(conv, nn.Conv3d) and (suits(conv) or columns.fits(conv)):
            slope = 1.0 if after is None else _slope(after, modules)
            if slope != 1:
                _merge(graph, node, after)
            if suits(conv):
                count += 1
                _open(graph, node)
                conv = Filtered(conv, slope)
            else:
                conv = First(conv, slope)
        elif isinstance(conv, nn.ConvTranspose3d) and phases.fits(conv):
            conv = Last(conv)
        name = f"{node.target}:rewritten:{node.name}"
        modules[name], node.target = conv, name
    return count


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses another's value."""
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _slope(node: fx.Node, modules: dict[str, nn.Module]) -> float:
    """What a node makes of negative values, if it is a ReLU of one slope; else 1."""
    if node.op == "call_function":
        return 0.0 if node.target in (torch.relu, nn.functional.relu) else 1.0
    module = _module(node, modules)
    if isinstance(module, nn.LeakyReLU):
        return module.negative_slope
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return float(module.weight.detach())
    return 0.0 if isinstance(module, nn.ReLU) else 1.0


def _merge(graph: fx.Graph, node: fx.Node, after: fx.Node | None) -> None:
    """Let a node stand for the one after it as well."""
    assert after is not None
    after.replace_all_uses_with(node)
    graph.erase_node(after)


def _open(graph: fx.Graph, node: fx.Node) -> None:
    """Give a node the maps themselves that were joined for it alone."""
    joined = node.args[0]
    assert isinstance(joined, fx.Node)
    if joined.op != "call_function" or joined.target is not torch.cat or len(joined.users) > 1:
        return
    dim = joined.args[1] if len(joined.args) > 1 else joined.kwargs.get("dim", 0)
    if dim == 1:
        node.args = tuple(joined.args[0])  # type: ignore[arg-type]
        graph.erase_node(joined)

"""A network's graph, rewritten for inference in fp32 on a CPU.

Feature maps of the finest level are larger than any cache, so a layer that does little costs as
much as one that does much: bringing them from memory and back is the work. So

- a frozen batch norm goes into the convolution before it;
- a convolution of 3 x 3 x 3 is computed by minimal filtering (:mod:`tessera.nets.winograd`), if its
  channels fill whole vectors;
- a convolution of few input channels, such as the first, is computed from columns
  (:mod:`tessera.nets.columns`);
- a convolution of few channels to few is computed plane by plane (:mod:`tessera.nets.planar`);
- a transposed convolution to few channels, such as the last, is computed by its phases
  (:mod:`tessera.nets.phases`);
- convolutions of one map side by side, as a residual block's first and its shortcut often are, are
  one convolution, if they are left to torch;
- all of these take the ReLU after them along (a leaky ReLU of one slope is one, too), and those of
  minimal filtering the joining of channels before them, and a sum after them with its ReLU.

The graph computes what it did but for rounding. Which layers are rewritten follows from the network
alone, so every job of a volume computes the same.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tessera.nets import columns, phases, planar, winograd

SUMS = (operator.add, operator.iadd, torch.add)


class Filtered(nn.Module):
    """A convolution without padding, by minimal filtering, and what bends its result.

    Args:
        conv: see :func:`suits`.
        slope: of negative results: 0 is a ReLU, 1 nothing.
        slope_of_sum: the last input is no map to convolve but is added to the result, and negative
            sums have this slope; None if nothing is added.
    """

    def __init__(
        self, conv: nn.Conv3d, slope: float = 1.0, slope_of_sum: float | None = None
    ) -> None:
        super().__init__()
        self._kernel, self._bias, self._slope = winograd.transform(conv.weight), conv.bias, slope
        self._slope_of_sum = 1.0 if slope_of_sum is None else slope_of_sum
        self.adds = slope_of_sum is not None

    def forward(self, *maps: Tensor) -> Tensor:
        """Map (sample, channel, z, y, x), joined along the channels, to two voxels fewer."""
        last = [m.permute(0, 2, 3, 4, 1) for m in maps]
        made = winograd.convolve(
            last[:-1] if self.adds else last, self._kernel, self._bias, torch.get_num_threads(),
            pad=0, slope=self._slope, beside=last[-1] if self.adds else None,
            slope_of_sum=self._slope_of_sum,
        )  # fmt: skip
        return made.permute(0, 4, 1, 2, 3)


class Few(nn.Module):
    """A convolution of few input channels, without padding, and what bends its result."""

    def __init__(self, conv: nn.Conv3d, slope: float) -> None:
        super().__init__()
        kind = columns.Columns if columns.fits(conv) else planar.Planar
        self._convolve = kind(conv, slope)
        self.kernel_size, self.stride = conv.kernel_size, conv.stride
        self.padding, self.dilation = conv.padding, conv.dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map (sample, channel, z, y, x)."""
        threads = torch.get_num_threads()
        if isinstance(self._convolve, planar.Planar):
            return self._convolve(x, threads)
        return self._convolve(x.permute(0, 2, 3, 4, 1), threads).permute(0, 4, 1, 2, 3)


class Raised(nn.Module):
    """A transposed convolution to few channels, without padding, and what bends its result.

    Attributes:
        conv: the layer itself, which knows its sizes.
    """

    def __init__(self, conv: nn.ConvTranspose3d, slope: float) -> None:
        super().__init__()
        self._phases, self.conv = phases.Phases(conv, slope), conv

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


def _plain(conv: nn.Conv3d | nn.ConvTranspose3d) -> bool:
    """True if a layer pads by so many zeros, if at all."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def rewrite(graph: fx.Graph, modules: dict[str, nn.Module]) -> int:
    """Rewrite a graph in place; return how many convolutions are by minimal filtering.

    Args:
        graph: of a network in eval mode.
        modules: of the network by name; new ones are added, none is changed.
    """
    count = 0
    for node in list(graph.nodes):
        conv = _module(node, modules)
        if not isinstance(conv, nn.Conv3d | nn.ConvTranspose3d) or not _plain(conv):
            continue
        while (after := _only_user(node)) is not None:
            norm = _module(after, modules)
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                conv = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose3d))
            elif not isinstance(norm, nn.Identity | nn.Dropout | nn.Dropout3d):
                break
            _merge(graph, node, after)
        new: nn.Module = conv
        if isinstance(conv, nn.Conv3d) and suits(conv):
            count += 1
            slope = _bend(graph, node, modules)
            _open(graph, node)
            node, slope_of_sum = _add(graph, node, modules)
            new = Filtered(conv, slope, slope_of_sum)
        elif isinstance(conv, nn.Conv3d) and (columns.fits(conv) or planar.fits(conv)):
            new = Few(conv, _bend(graph, node, modules))
        elif isinstance(conv, nn.ConvTranspose3d) and phases.fits(conv):
            new = Raised(conv, _bend(graph, node, modules))
        _put(node, new, modules)
    _join_twins(graph, modules)
    return count


def channels(x: Tensor, first: int, last: int) -> Tensor:
    """Some channels of a map."""
    return x[:, first:last]


def _join_twins(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Let convolutions of one map, that are alike but for their kernels, be one."""
    alike: dict[tuple[object, ...], list[fx.Node]] = {}
    for node in graph.nodes:
        conv = _module(node, modules)
        if isinstance(conv, nn.Conv3d) and conv.groups == 1 and _plain(conv):
            window = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.bias is None)
            alike.setdefault((node.args[0], *window), []).append(node)
    for nodes in alike.values():
        if len(nodes) < 2:
            continue
        parts = [modules[str(node.target)] for node in nodes]
        with graph.inserting_before(nodes[0]):
            joined = graph.call_module(str(nodes[0].target), nodes[0].args)
        _put(joined, _side_by_side(parts), modules)  # type: ignore[arg-type]
        at = 0
        for node, part in zip(nodes, parts, strict=True):
            assert isinstance(part, nn.Conv3d)
            with graph.inserting_before(node):
                its = graph.call_function(channels, (joined, at, at + part.out_channels))
            node.replace_all_uses_with(its)
            graph.erase_node(node)
            at += part.out_channels


def _side_by_side(convs: list[nn.Conv3d]) -> nn.Conv3d:
    """One convolution that has the channels of several, one after the other."""
    one = convs[0]
    outputs = sum(c.out_channels for c in convs)
    same = ("kernel_size", "stride", "padding", "dilation")
    window: dict[str, Any] = {name: getattr(one, name) for name in same}
    conv = type(one)(one.in_channels, outputs, bias=one.bias is not None, **window)
    conv.requires_grad_(False)
    conv.weight.copy_(torch.cat([c.weight for c in convs]))
    if conv.bias is not None:
        conv.bias.copy_(torch.cat([c.bias for c in convs if c.bias is not None]))
    return conv


def _put(node: fx.Node, module: nn.Module, modules: dict[str, nn.Module]) -> None:
    """Let a node call another module."""
    name = f"{node.target}:rewritten:{node.name}"
    modules[name], node.target = module, name


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


def _bend(graph: fx.Graph, node: fx.Node, modules: dict[str, nn.Module]) -> float:
    """Let a node stand for a ReLU of its value alone as well; return the slope."""
    after = _only_user(node)
    slope = 1.0 if after is None else _slope(after, modules)
    if slope != 1:
        _merge(graph, node, after)
    return slope


def _add(
    graph: fx.Graph, node: fx.Node, modules: dict[str, nn.Module]
) -> tuple[fx.Node, float | None]:
    """Put a node that is only used in a sum in the sum's place, what is added as its last input.

    Returns the node that now stands for both, and for a ReLU after them, and its slope; the node as
    it is and None if there is no such sum.
    """
    total = _only_user(node)
    if total is None or total.op != "call_function" or total.target not in SUMS or total.kwargs:
        return node, None
    other = next((a for a in total.args if a is not node), None)
    if len(total.args) != 2 or not isinstance(other, fx.Node):
        return node, None
    with graph.inserting_before(total):  # where what is added is there
        both = graph.call_module(str(node.target), (*node.args, other))
    total.replace_all_uses_with(both)
    graph.erase_node(total)
    graph.erase_node(node)
    return both, _bend(graph, both, modules)


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

"""Run a network so that each layer computes only what the wanted output depends on.

A block is read with a halo as wide as the network's receptive field, and only its write box is
kept. Run as it stands, the network computes every layer over the whole read box; but the layers
near the output are needed over little more than the write box, and they are the dear ones::

    read box   |--------------------------------|   first layers
                    |----------------------|        ...
    write box            |------------|             last layers

So intervals are pushed from the output back through the graph (as :mod:`tessera.nets.reach` does
for one network, here for any graph of the layers below), and each layer is fed exactly the voxels
that it needs. What is computed is the same sums over the same numbers. What lies beyond the input
is refused, so that a halo that is too small cannot pass unseen; or, as asked, zero in each layer,
as the layers pad.

Layers: convolutions, transposed convolutions, pooling, nearest upsampling, batch norm, anything
element by element or over channels, addition, concatenation of channels. A network with other
layers is run whole.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tessera.predict.filtered import SUMS, Few, Filtered, Raised, channels, rewrite

Span = tuple[int, int]  # half-open interval of indices along one axis
Spans = tuple[Span, Span, Span]
Run = Callable[[list[Tensor]], Tensor]
Along = Callable[[int, Span], Span]  # of an axis and an interval along it

_POINTWISE_LAYERS = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Dropout,
    nn.Dropout3d,
    nn.modules.batchnorm._BatchNorm,
)
_POINTWISE = (
    torch.relu,
    functional.relu,
    functional.leaky_relu,
    torch.sigmoid,
    torch.tanh,
    torch.log,
    torch.logit,
    torch.clamp,
    operator.mul,
    operator.add,
    operator.truediv,
    channels,
)
_OVER_CHANNELS = (torch.softmax, torch.log_softmax)


class Untrimmable(Exception):
    """The network has a layer that this module does not know, or sees further than the halo."""


@dataclass(frozen=True)
class _Layer:
    """How one node is run.

    Attributes:
        run: from the inputs, cropped to ``needs``, the output over ``gives``.
        needs: for an interval of the output along an axis, that of each input.
        gives: for the input's interval, the interval of what ``run`` returns.
        own: for the input's whole length, that of the output of the layer as it stands, padded.
        adds: the last input is added to the output, so that it is needed where that is.
    """

    run: Run
    needs: Along
    gives: Along
    own: Along
    adds: bool = False


class Trimmed:
    """A network that is given a read box and returns the write box.

    Args:
        net: in eval mode; maps (sample, channel, z, y, x) to the same z, y, x.
        filtered: convolve by minimal filtering where it fits (see
            :mod:`tessera.predict.filtered`): fp32 on a CPU.
        padded: beyond the input all layers see zeros, so that the result is the network's own
            whatever is wanted; else what is wanted may depend on the input alone.

    Attributes:
        filtered: how many convolutions are by minimal filtering.

    Raises:
        Untrimmable: if a layer is not known.
    """

    def __init__(self, net: nn.Module, filtered: bool = False, padded: bool = False) -> None:
        self._padded = padded
        try:
            self._graph = _Tracer().trace(net)
        except (fx.proxy.TraceError, TypeError, AttributeError, RuntimeError) as error:
            raise Untrimmable(f"its graph cannot be traced: {error}") from None
        modules = dict(net.named_modules())
        self.filtered = rewrite(self._graph, modules) if filtered else 0
        self._layers = {
            node: _layer(node, modules)
            for node in self._graph.nodes
            if node.op not in ("placeholder", "output")
        }
        self._spans: dict[tuple[Any, ...], dict[fx.Node, Spans]] = {}

    def spans(self, size: tuple[int, ...], wanted: Spans) -> dict[fx.Node, Spans]:
        """Return what each node must compute, in its own indices.

        Args:
            size: of the input (z, y, x).
            wanted: of the output, in the same voxels.

        Raises:
            Untrimmable: if the input is too small for what is wanted, or, padded, is no whole
                number of the network's strides.
        """
        key = (*size, *wanted)
        if key not in self._spans:
            self._spans[key] = self._push_back(size, wanted)
        return self._spans[key]

    def sees(self, size: tuple[int, ...], wanted: Spans) -> bool:
        """True if an input of ``size`` (z, y, x) gives ``wanted``."""
        try:
            self.spans(size, wanted)
        except Untrimmable:
            return False
        return True

    def _push_back(self, size: tuple[int, ...], wanted: Spans) -> dict[fx.Node, Spans]:
        needed: dict[fx.Node, Spans] = {}
        own = self._own(size) if self._padded else {}
        for node in reversed(self._graph.nodes):
            if node.op == "output":
                needed[node.args[0]] = wanted
                continue
            if node not in needed:
                raise Untrimmable(f"'{node.name}' is computed for nothing")
            if node in own:
                needed[node] = _common(needed[node], own[node])
            if node.op == "placeholder":
                if any(a < 0 or b > n for (a, b), n in zip(needed[node], size, strict=True)):
                    raise Untrimmable(f"it needs voxels {needed[node]} of {tuple(size)}")
                continue
            for source, ask in zip(_sources(node), self._asks(node, needed[node]), strict=True):
                needed[source] = _union(needed[source], ask) if source in needed else ask
        return needed

    def _own(self, size: tuple[int, ...]) -> dict[fx.Node, Spans]:
        """What each node has of its own, if the whole network is given an input of ``size``."""
        own: dict[fx.Node, Spans] = {}
        for node in self._graph.nodes:
            if node.op == "placeholder":
                own[node] = ((0, size[0]), (0, size[1]), (0, size[2]))
            elif node.op != "output":
                first, *others = (own[source] for source in _sources(node))
                if any(other != first for other in others):
                    raise Untrimmable(f"{tuple(size)} voxels are no whole number of its strides")
                z, y, x = (self._layers[node].own(axis, span) for axis, span in enumerate(first))
                own[node] = z, y, x
        return own

    def _asks(self, node: fx.Node, spans: Spans) -> list[Spans]:
        """What each input must hold for a node's output over ``spans``."""
        layer = self._layers[node]
        z, y, x = (layer.needs(axis, span) for axis, span in enumerate(spans))
        asks: list[Spans] = [(z, y, x)] * len(_sources(node))
        return [*asks[:-1], spans] if layer.adds else asks

    @torch.inference_mode()
    def __call__(self, x: Tensor, wanted: Spans) -> Tensor:
        """Return the network's output over ``wanted`` (z, y, x), in indices of ``x``."""
        needed = self.spans(x.shape[2:], wanted)
        left = {node: len(node.users) for node in self._graph.nodes}
        values: dict[fx.Node, Tensor] = {}
        for node in self._graph.nodes:
            if node.op == "output":
                return values[node.args[0]]
            if node.op == "placeholder":
                values[node] = _crop(
                    x, ((0, x.shape[2]), (0, x.shape[3]), (0, x.shape[4])), needed[node]
                )
                continue
            asks = self._asks(node, needed[node])
            inputs = [
                _crop(values[s], needed[s], ask)
                for s, ask in zip(_sources(node), asks, strict=True)
            ]
            for source in node.all_input_nodes:
                left[source] -= 1
                if not left[source]:
                    del values[source]
            layer = self._layers[node]
            out = layer.run(inputs)
            del inputs
            gives = tuple(layer.gives(axis, span) for axis, span in enumerate(asks[0]))
            values[node] = _crop(out, gives, needed[node])  # type: ignore[arg-type]
            del out
        raise AssertionError("a graph without an output")


class _Tracer(fx.Tracer):
    """Looks into containers, not into layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Conv3d | nn.modules.batchnorm._BatchNorm):
            return True
        return bool(super().is_leaf_module(m, module_qualified_name))


def _sources(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors a layer is given, in order and as often as they are."""
    given = node.args[0] if node.op == "call_function" and node.target is torch.cat else node.args
    assert isinstance(given, list | tuple)
    return [a for a in given if isinstance(a, fx.Node)]


def _union(a: Spans, b: Spans) -> Spans:
    z, y, x = ((min(i[0], j[0]), max(i[1], j[1])) for i, j in zip(a, b, strict=True))
    return z, y, x


def _common(a: Spans, b: Spans) -> Spans:
    z, y, x = ((max(i[0], j[0]), min(i[1], j[1])) for i, j in zip(a, b, strict=True))
    return z, y, x


def _crop(tensor: Tensor, have: Spans, want: Spans) -> Tensor:
    """Return ``want`` of a tensor that holds ``have``; beyond that lie zeros."""
    if have == want:
        return tensor
    (z0, _), (y0, _), (x0, _) = have
    (za, zb), (ya, yb), (xa, xb) = inside = _common(have, want)
    part = tensor[:, :, za - z0 : zb - z0, ya - y0 : yb - y0, xa - x0 : xb - x0]
    if inside == want:
        return part
    sides = zip(reversed(want), reversed(inside), strict=True)
    return functional.pad(part, [n for w, i in sides for n in (i[0] - w[0], w[1] - i[1])])


def _same(axis: int, span: Span) -> Span:
    return span


def _layer(node: fx.Node, modules: dict[str, nn.Module]) -> _Layer:
    if node.op == "call_module":
        return _of_module(modules[str(node.target)])
    call: Any = node.target
    if node.op == "call_function" and call is torch.cat:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if dim == 1:
            return _Layer(lambda inputs: torch.cat(inputs, 1), _same, _same, _same)
    elif node.op == "call_function" and call in SUMS and len(_sources(node)) == 2:
        if not node.kwargs:
            return _Layer(lambda inputs: inputs[0] + inputs[1], _same, _same, _same)
    elif node.op == "call_function" and _sources(node) == [node.args[0]]:  # the rest are numbers
        if call in _POINTWISE or (call in _OVER_CHANNELS and node.args[1:] == (1,)):
            return _Layer(lambda x: call(x[0], *node.args[1:], **node.kwargs), _same, _same, _same)
    raise Untrimmable(f"'{node.name}' is a {node.op} of {node.target}")


def _of_module(module: nn.Module) -> _Layer:
    if isinstance(module, Filtered):
        window = _window((3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1))
        return _Layer(lambda inputs: module(*inputs), *window, module.adds)
    if isinstance(module, Few):
        pad = _triple(module.padding)
        window = _window(module.kernel_size, module.stride, pad, module.dilation)
        return _Layer(lambda inputs: module(inputs[0]), *window)
    if isinstance(module, Raised):
        return replace(_transposed(module.conv), run=lambda inputs: module(inputs[0]))
    if isinstance(module, nn.ConvTranspose3d):
        return _transposed(module)
    if isinstance(module, nn.Conv3d):
        return _conv(module)
    if isinstance(module, nn.MaxPool3d | nn.AvgPool3d):
        return _pool(module)
    if isinstance(module, nn.Upsample):
        return _upsample(module)
    if isinstance(module, nn.ReLU):
        return _Layer(lambda inputs: torch.relu(inputs[0]), _same, _same, _same)
    if isinstance(module, _POINTWISE_LAYERS):
        if getattr(module, "inplace", False):  # the input may be a view of what a skip still needs
            return _Layer(lambda inputs: module(inputs[0].clone()), _same, _same, _same)
        return _Layer(lambda inputs: module(inputs[0]), _same, _same, _same)
    raise Untrimmable(f"it has a layer of kind {type(module).__name__}")


def _window(
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Along, Along, Along]:
    """Needs, gives and own of a window that slides over its input."""

    def needs(axis: int, out: Span) -> Span:
        s, p, reach = stride[axis], pad[axis], dilation[axis] * (kernel[axis] - 1) + 1
        return out[0] * s - p, (out[1] - 1) * s - p + reach

    def gives(axis: int, given: Span) -> Span:
        s, p, reach = stride[axis], pad[axis], dilation[axis] * (kernel[axis] - 1) + 1
        return (given[0] + p) // s, (given[1] + p - reach) // s + 1

    def own(axis: int, whole: Span) -> Span:
        return gives(axis, (whole[0] - pad[axis], whole[1] + pad[axis]))

    return needs, gives, own


def _conv(conv: nn.Conv3d) -> _Layer:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise Untrimmable(f"it pads by {conv.padding_mode} {conv.padding}")
    pad = _triple(conv.padding)
    window = _window(conv.kernel_size, conv.stride, pad, conv.dilation)
    if conv.kernel_size == (1, 1, 1) and not any(pad):
        return _Layer(lambda inputs: conv(inputs[0]), *window)

    def run(inputs: list[Tensor]) -> Tensor:
        return functional.conv3d(
            inputs[0], conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
        )

    return _Layer(run, *window)


def _pool(pool: nn.MaxPool3d | nn.AvgPool3d) -> _Layer:
    kernel = _triple(pool.kernel_size)
    stride, pad = _triple(pool.stride or pool.kernel_size), _triple(pool.padding)
    if max(pad) or pool.ceil_mode or getattr(pool, "return_indices", False):
        raise Untrimmable("it pools with padding or indices")
    if max(_triple(getattr(pool, "dilation", 1))) > 1:
        raise Untrimmable("it pools with dilation")
    return _Layer(lambda inputs: pool(inputs[0]), *_window(kernel, stride, pad, (1, 1, 1)))


def _transposed(conv: nn.ConvTranspose3d) -> _Layer:
    kernel, stride = conv.kernel_size, conv.stride
    pad = _triple(conv.padding)
    if max(conv.dilation) > 1:
        raise Untrimmable("it has a transposed convolution with dilation")

    def needs(axis: int, out: Span) -> Span:
        k, s, p = kernel[axis], stride[axis], pad[axis]
        return -((k - 1 - p - out[0]) // s), (out[1] - 1 + p) // s + 1

    def gives(axis: int, given: Span) -> Span:
        k, s, p = kernel[axis], stride[axis], pad[axis]
        return given[0] * s - p, (given[1] - 1) * s - p + k

    def run(inputs: list[Tensor]) -> Tensor:
        return functional.conv_transpose3d(
            inputs[0], conv.weight, conv.bias, stride, 0, 0, conv.groups
        )

    def own(axis: int, whole: Span) -> Span:
        k, s, p, more = kernel[axis], stride[axis], pad[axis], _triple(conv.output_padding)[axis]
        return whole[0] * s, (whole[1] - 1) * s + k - 2 * p + more

    return _Layer(run, needs, gives, own)


def _upsample(up: nn.Upsample) -> _Layer:
    if up.mode != "nearest" or up.scale_factor is None:
        raise Untrimmable(f"it upsamples by '{up.mode}'")
    factor = _triple(up.scale_factor)

    def needs(axis: int, out: Span) -> Span:
        return out[0] // factor[axis], -(-out[1] // factor[axis])

    def gives(axis: int, given: Span) -> Span:
        return given[0] * factor[axis], given[1] * factor[axis]

    return _Layer(lambda inputs: up(inputs[0]), needs, gives, gives)


def _triple(value: Any) -> tuple[int, int, int]:
    z, y, x = value if isinstance(value, tuple | list) else (value,) * 3
    return int(z), int(y), int(x)

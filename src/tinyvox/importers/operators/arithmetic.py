"""ATen operators on each value alone: sums and products of signals, constant factors, offsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.broadcasting import alike, repeated
from tinyvox.importers.operators.call import Call, canonical
from tinyvox.importers.per_frame import scaling
from tinyvox.importers.signal import Stream
from tinyvox.model import (
    Activation,
    Add,
    BatchNorm,
    Conv1d,
    Conv2d,
    Layer,
    LayerNorm,
    Linear,
    Multiply,
    Node,
    Unflatten,
)


def add(call: Call) -> Stream:
    """The sum of two signals, or of a signal and a constant."""
    return _sum(call, 1.0, call.arguments.get("alpha", 1))


def subtract(call: Call) -> Stream:
    """The difference of two signals, or of a signal and a constant."""
    return _sum(call, 1.0, -call.arguments.get("alpha", 1))


def subtract_from(call: Call) -> Stream:
    """`rsub(self, other, alpha)`: `other - alpha * self`."""
    return _sum(call, -call.arguments.get("alpha", 1), 1.0)


def negative(call: Call) -> Stream:
    """A signal times -1."""
    return _affine(call, -1.0, 0.0)


def _sum(call: Call, factor: float, other_factor: float) -> Stream:
    """`factor * self + other_factor * other`."""
    if not isinstance(call["self"], Stream):
        return _affine(_swapped(call), other_factor, call["self"] * factor)
    if not isinstance(call["other"], Stream):
        return _affine(call, factor, call["other"] * other_factor)
    one, two = _alike(call)
    nodes = scaled_by(call, one.node, factor), scaled_by(call, two.node, other_factor)
    return one.becomes(call.graph.add(Add(), *nodes), one.axes)


def product(call: Call) -> Stream | Tensor:
    """`mul(self, other)`."""
    return torch.zeros_like(call.result) if _is_no_frame(call) else multiply(call)


def multiply(call: Call) -> Stream:
    """The product of two signals, or of a signal and a constant."""
    if not isinstance(call["self"], Stream):
        return multiply(_swapped(call))
    if not isinstance(call["other"], Stream):
        return _unmasked(call) or _affine(call, call["other"], 0.0)
    one, two = _alike(call)
    return one.becomes(call.graph.add(Multiply(), one.node, two.node), one.axes)


def _is_no_frame(call: Call) -> bool:
    """Whether this is one frame of an utterance times 0: how some write zeros before the first."""
    stream = call["self"]
    if not isinstance(stream, Stream) or isinstance(call["other"], Stream):
        return False
    is_one = call.graph.signals[stream.node].stride == 0
    return is_one and not bool(torch.as_tensor(call["other"]).any())


def _unmasked(call: Call) -> Stream | None:
    """The signal of a product with ones alone, as a mask of utterances with all frames is."""
    stream, mask = call["self"], call["other"]
    is_mask = isinstance(mask, Tensor) and mask.ndim > 0 and bool((mask == 1).all())
    is_mask = is_mask and isinstance(stream, Stream) and tuple(call.result.shape) == stream.shape
    return stream if is_mask else None


def _alike(call: Call) -> tuple[Stream, Stream]:
    """Two signals of one layout; features are repeated as torch broadcasts them."""
    return alike(call.graph, call.whole("self"), call.whole("other"))


def largest(call: Call) -> Stream:
    """The larger of two signals: `b + relu(a - b)`."""
    one, two = _alike(call)
    return one.becomes(add_nodes(call, two.node, _excess(call, one, two)), one.axes)


def smallest(call: Call) -> Stream:
    """The smaller of two signals: `a - relu(a - b)`."""
    one, two = _alike(call)
    excess = scaled_by(call, _excess(call, one, two), -1.0)
    return one.becomes(add_nodes(call, one.node, excess), one.axes)


def _excess(call: Call, one: Stream, two: Stream) -> str:
    difference = add_nodes(call, one.node, scaled_by(call, two.node, -1.0))
    return call.graph.add(Activation("relu"), difference)


def add_nodes(call: Call, *nodes: str) -> str:
    """The node that gives the sum of nodes."""
    return call.graph.add(Add(), *nodes)


def divide(call: Call) -> Stream:
    """A signal or a constant, divided by one or the other."""
    if call.arguments.get("rounding_mode"):
        raise ImporterError("rounds the quotient, expected no rounding")
    if not isinstance(call["other"], Stream):
        return _affine(call, 1.0 / call["other"], 0.0)
    below = call.stream("other")
    node = call.graph.add(Activation("reciprocal"), call.whole("other").node)
    inverse = dataclasses.replace(call.graph.whole(below), node=node)
    return multiply(call.given(self=call["self"], other=inverse))


def interpolate(call: Call) -> Stream:
    """`lerp(self, end, weight)`: `self + weight * (end - self)`."""
    apart = subtract(call.given(self=call["end"], other=call["self"]))
    step = multiply(call.given(self=apart, other=call["weight"]))
    return add(call.given(self=call["self"], other=step))


def add_product(call: Call) -> Stream:
    """`addcmul(self, tensor1, tensor2, value)`."""
    product = multiply(call.given(self=call["tensor1"], other=call["tensor2"]))
    return add(call.given(self=call["self"], other=product, alpha=call["value"]))


def add_quotient(call: Call) -> Stream:
    """`addcdiv(self, tensor1, tensor2, value)`."""
    quotient = divide(call.given(self=call["tensor1"], other=call["tensor2"]))
    return add(call.given(self=call["self"], other=quotient, alpha=call["value"]))


def _swapped(call: Call) -> Call:
    """The same use of the same signals, so what is known of their other uses stays."""
    arguments = {**call.arguments, "self": call["other"], "other": call["self"]}
    return dataclasses.replace(call, arguments=arguments)


def scaled_by(call: Call, node: str, factor: float, offset: float = 0.0) -> str:
    """The node that gives the values of a node times a factor, plus an offset."""
    if (factor, offset) == (1, 0):
        return node
    ones = torch.ones(call.graph.signals[node].shape[0])
    return call.graph.add(scaling(ones * factor, ones * offset), node)


def _affine(call: Call, factor: Any, offset: Any) -> Stream:
    """A signal times a constant factor plus a constant offset."""
    stream = repeated(call.graph, call.whole("self"), tuple(call.result.shape))
    weight, bias = (_per_value(call, stream, value) for value in (factor, offset))
    channels, flat = call.graph.signals[stream.node].shape[0], call.graph.flatten(stream.node)
    if not (_is_each(weight, channels) and _is_each(bias, channels)):
        node = call.graph.add(scaling(weight, bias), flat)
        node = node if flat == stream.node else call.graph.add(Unflatten(channels), node)
        return stream.becomes(node, stream.axes)
    weight, bias = (each.view(channels, -1)[:, 0].clone() for each in (weight, bias))
    before = call.graph.nodes.get(stream.node)
    merged = _merged(before, weight, bias) if before and call.only_use else None
    if before and merged:
        node = call.graph.replace(before.name, merged)
    else:
        node = call.graph.add(scaling(weight, bias), stream.node)
    return stream.becomes(node, stream.axes)


def _is_each(values: Tensor, channels: int) -> bool:
    """Whether the values of a frame are one value for each channel."""
    grid = values.view(channels, -1)
    return bool((grid == grid[:, :1]).all())


def _merged(before: Node, weight: Tensor, bias: Tensor) -> Layer | None:
    """The layer before with factor and offset in its own numbers; None where it has no such."""
    layer = before.layer
    if isinstance(layer, BatchNorm) or (isinstance(layer, LayerNorm) and _is_bare(layer)):
        return dataclasses.replace(
            layer, weight=layer.weight * weight, bias=layer.bias * weight + bias
        )
    if isinstance(layer, Linear | Conv1d | Conv2d) and bool((weight == 1).all()):
        return dataclasses.replace(layer, bias=bias if layer.bias is None else layer.bias + bias)
    return None


def _is_bare(layer: Layer) -> bool:
    """Whether this is a layer norm without factor and offset, as graphs write it step by step."""
    return isinstance(layer, LayerNorm) and bool((layer.weight == 1).all())


def per_channel(call: Call, stream: Stream, value: Any) -> Tensor:
    """A constant as one value a channel. Raises ImporterError where it varies otherwise."""
    values, channels = _per_value(call, stream, value), call.graph.signals[stream.node].shape[0]
    if not _is_each(values, channels):
        raise ImporterError(
            "a constant that varies over bands, expected one value for each channel"
        )
    return values.view(channels, -1)[:, 0].clone()


def _per_value(call: Call, stream: Stream, value: Any) -> Tensor:
    """A constant as one for each value of a frame of the node. Raises ImporterError where it varies
    otherwise."""
    if tuple(call.result.shape) != stream.shape:
        raise ImporterError(
            f"repeats {stream} to the shape {list(call.result.shape)} of a constant"
        )
    grid = canonical(stream.axes, torch.as_tensor(value, dtype=torch.float32).expand(stream.shape))
    if (grid != grid[0, 0]).any():
        raise ImporterError(
            "a constant that varies over time or batch is not supported, expected the same for "
            "every frame"
        )
    return grid[0, 0].clone()


ARITHMETIC: dict[str, Callable[[Call], Any]] = {
    "add": add,
    "sub": subtract,
    "rsub": subtract_from,
    "neg": negative,
    **dict.fromkeys(("mul", "multiply"), product),
    **dict.fromkeys(("div", "divide", "true_divide"), divide),
    "lerp": interpolate,
    "addcmul": add_product,
    "addcdiv": add_quotient,
}
"""The handler of every operator on single values, by the operator's name without overload."""

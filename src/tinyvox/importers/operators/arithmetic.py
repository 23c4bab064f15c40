"""ATen operators on each value alone: sums and products of signals, constant factors, offsets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.operators.call import Call, canonical
from tinyvox.importers.signal import Stream
from tinyvox.model import (
    Add,
    BatchNorm,
    Conv1d,
    Conv2d,
    Layer,
    LayerNorm,
    Linear,
    Multiply,
    Node,
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


def multiply(call: Call) -> Stream:
    """The product of two signals, or of a signal and a constant."""
    if not isinstance(call["self"], Stream):
        return multiply(_swapped(call))
    if not isinstance(call["other"], Stream):
        return _unmasked(call) or _affine(call, call["other"], 0.0)
    one, two = _alike(call)
    return one.becomes(call.graph.add(Multiply(), one.node, two.node), one.axes)


def _unmasked(call: Call) -> Stream | None:
    """The signal of a product with ones alone, as a mask of utterances with all frames is."""
    stream, mask = call["self"], call["other"]
    is_mask = isinstance(mask, Tensor) and mask.ndim > 0 and bool((mask == 1).all())
    is_mask = is_mask and isinstance(stream, Stream) and tuple(call.result.shape) == stream.shape
    return stream if is_mask else None


def power(call: Call) -> Stream:
    """The square of a signal."""
    if call["exponent"] != 2:
        raise ImporterError(f"takes the power {call['exponent']}, expected 2")
    return square(call)


def square(call: Call) -> Stream:
    """A signal times itself."""
    return multiply(
        dataclasses.replace(call, arguments={"self": call["self"], "other": call["self"]})
    )


def _alike(call: Call) -> tuple[Stream, Stream]:
    """Two signals of one layout."""
    one, two = call.whole("self"), call.whole("other")
    if one.axes != two.axes or one.backwards != two.backwards:
        raise ImporterError(f"combines {one} and {two}, expected equal layouts")
    return one, two


def divide(call: Call) -> Stream:
    """A signal divided by a constant."""
    if isinstance(call["other"], Stream) or call.arguments.get("rounding_mode"):
        raise ImporterError("divides by a signal, or rounds; expected a constant, and no rounding")
    return _affine(call, 1.0 / call["other"], 0.0)


def _swapped(call: Call) -> Call:
    arguments = {**call.arguments, "self": call["other"], "other": call["self"]}
    return dataclasses.replace(call, arguments=arguments)


def scaled_by(call: Call, node: str, factor: float, offset: float = 0.0) -> str:
    """The node that gives the values of a node times a factor, plus an offset."""
    if (factor, offset) == (1, 0):
        return node
    ones = torch.ones(call.graph.signals[node].shape[0])
    return call.graph.add(_scaling(ones * factor, ones * offset), node)


def _affine(call: Call, factor: Any, offset: Any) -> Stream:
    """A signal times a constant factor plus a constant offset."""
    stream = call.whole("self")
    weight, bias = (per_channel(call, stream, value) for value in (factor, offset))
    before = call.graph.nodes.get(stream.node)
    merged = _merged(before, weight, bias) if before and call.only_use else None
    if before and merged:
        node = call.graph.replace(before.name, merged)
    else:
        node = call.graph.add(_scaling(weight, bias), stream.node)
    return stream.becomes(node, stream.axes)


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


def _scaling(weight: Tensor, bias: Tensor) -> BatchNorm:
    return BatchNorm(torch.zeros_like(weight), torch.ones_like(weight), weight, bias, eps=0.0)


def per_channel(call: Call, stream: Stream, value: Any) -> Tensor:
    """A constant as one value a channel. Raises ImporterError where it varies otherwise."""
    if tuple(call.result.shape) != stream.shape:
        raise ImporterError(
            f"repeats {stream} to the shape {list(call.result.shape)} of a constant"
        )
    spread = torch.as_tensor(value, dtype=torch.float32).expand(stream.shape)
    grid = canonical(stream.axes, spread)
    shape = call.graph.signals[stream.node].shape
    per_frame = grid[0, 0].view(shape[0], -1)
    if (grid != grid[0, 0]).any() or (per_frame != per_frame[:, :1]).any():
        raise ImporterError(
            "a constant that varies over time, batch or bands is not supported, "
            "expected one value for each channel"
        )
    return per_frame[:, 0].clone()


ARITHMETIC: dict[str, Callable[[Call], Any]] = {
    "add": add,
    "sub": subtract,
    "rsub": subtract_from,
    "neg": negative,
    "mul": multiply,
    "pow": power,
    "square": square,
    "div": divide,
}
"""The handler of every operator on single values, by the operator's name without overload."""

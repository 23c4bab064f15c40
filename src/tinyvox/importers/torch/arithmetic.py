"""ATen operators on each value alone: activations, limits, sums, constant factors and offsets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.signal import Stream
from tinyvox.importers.torch.call import Call, canonical
from tinyvox.model import Activation, Add, BatchNorm, Linear, Node


def activation(kind: str, limit: float | None = None) -> Callable[[Call], Stream]:
    """The handler of an elementwise function."""
    return lambda call: _activated(call, Activation(kind, limit))


def _activated(call: Call, layer: Activation) -> Stream:
    """An activation. One that maps 0 to 0 may stand before or after padding and windows."""
    stream = call.whole("self") if layer.kind == "sigmoid" else call.stream("self")
    stream = call.graph.finalize(stream)
    node = call.graph.add(layer, stream.node)
    return dataclasses.replace(stream, node=node)


def clamp(call: Call) -> Stream:
    """Limits from below, from above, or both: `clamp`, `hardtanh`, `clamp_min`, `clamp_max`.

    The lower limit must be 0; an upper one alone must follow a ReLU.
    """
    low = _number(call, "min", "min_val")
    high = _number(call, "max", "max_val")
    if low == 0:
        limit = None if high is None or math.isinf(high) else high
        return _activated(call, Activation("relu" if limit is None else "clipped_relu", limit))
    return _limited(call, low, high)


def minimum(call: Call) -> Stream:
    """The minimum with a constant: one limit, or one for each channel, on what a ReLU gives."""
    other = call.tensor("other")
    return _limited(call, None, float(other)) if other.numel() == 1 else _limited_each(call, other)


def maximum(call: Call) -> Stream:
    """The maximum with 0: a ReLU."""
    if call.tensor("other").any():
        raise ImporterError("takes the maximum with something else than 0, expected 0")
    return _activated(call, Activation("relu"))


def _number(call: Call, *names: str) -> float | None:
    found = [call[name] for name in names if call.arguments.get(name) is not None]
    return float(found[0]) if found else None


def _limited(call: Call, low: float | None, high: float | None) -> Stream:
    """An upper limit on the output of a ReLU makes it a clipped one."""
    stream = call.graph.finalize(call.stream("self"))
    before = call.graph.layer(stream.node)
    if low is not None or high is None or not isinstance(before, Activation):
        raise ImporterError(f"clamps to {low}, {high}, expected 0 and a limit")
    if before.kind not in ("relu", "clipped_relu") or before.limits is not None:
        raise ImporterError(f"clamps a {before.kind} to {high}, expected a relu")
    limit = high if before.limit is None else min(high, before.limit)
    source = call.graph.nodes[stream.node].inputs[0]
    node = call.graph.add(Activation("clipped_relu", limit), source)
    return dataclasses.replace(stream, node=node)


def _limited_each(call: Call, other: Tensor) -> Stream:
    """As `_limited`, with a limit for each channel."""
    stream = call.whole("self")
    before = call.graph.layer(stream.node)
    if not isinstance(before, Activation) or before.kind not in ("relu", "clipped_relu"):
        raise ImporterError("takes the minimum with a limit for each channel, expected a relu")
    limits = _per_channel(call, stream, other)
    for known in (before.limit, before.limits):
        limits = limits if known is None else limits.clamp(max=known)
    source = call.graph.nodes[stream.node].inputs[0]
    node = call.graph.add(Activation("clipped_relu", None, limits), source)
    return stream.becomes(node, stream.axes)


def add(call: Call) -> Stream:
    """The sum of two signals, or of a signal and a constant."""
    if not isinstance(call["self"], Stream):
        return add(_swapped(call))
    if isinstance(call["other"], Stream):
        return _sum(call)
    return _affine(call, 1.0, _scaled(call["other"], call.arguments.get("alpha", 1)))


def _sum(call: Call) -> Stream:
    if call.arguments.get("alpha", 1) != 1:
        raise ImporterError(f"adds with alpha {call['alpha']}, expected 1")
    one, two = call.whole("self"), call.whole("other")
    if one.axes != two.axes or one.backwards != two.backwards:
        raise ImporterError(f"adds {one} and {two}, expected equal layouts")
    return one.becomes(call.graph.add(Add(), one.node, two.node), one.axes)


def subtract(call: Call) -> Stream:
    """A signal minus a constant."""
    scale = _scaled(call["other"], -call.arguments.get("alpha", 1))
    return _affine(call, 1.0, scale)


def multiply(call: Call) -> Stream:
    """A signal times a constant."""
    if not isinstance(call["self"], Stream):
        return multiply(_swapped(call))
    return _affine(call, call["other"], 0.0)


def divide(call: Call) -> Stream:
    """A signal divided by a constant."""
    if isinstance(call["other"], Stream) or call.arguments.get("rounding_mode"):
        raise ImporterError("divides by a signal, or rounds; expected a constant, and no rounding")
    return _affine(call, 1.0 / call["other"], 0.0)


def _swapped(call: Call) -> Call:
    arguments = {**call.arguments, "self": call["other"], "other": call["self"]}
    return dataclasses.replace(call, arguments=arguments, only_use=False)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, Stream):
        raise ImporterError("subtracts one signal from another, which is not supported")
    return value * factor


def _affine(call: Call, factor: Any, offset: Any) -> Stream:
    """A signal times a constant factor plus a constant offset."""
    stream = call.whole("self")
    if isinstance(factor, Stream):
        raise ImporterError("multiplies two signals, which is not supported")
    weight, bias = (_per_channel(call, stream, value) for value in (factor, offset))
    before = call.graph.nodes.get(stream.node)
    merged = _merged(before, weight, bias) if before and call.only_use else None
    if before and merged:
        node = call.graph.add(merged, *before.inputs)
    else:
        node = call.graph.add(_scaling(weight, bias), stream.node)
    return stream.becomes(node, stream.axes)


def _merged(before: Node, weight: Tensor, bias: Tensor) -> Linear | BatchNorm | None:
    """The layer before with factor and offset in its own numbers; None where it has no such."""
    layer = before.layer
    if isinstance(layer, BatchNorm):
        return dataclasses.replace(
            layer, weight=layer.weight * weight, bias=layer.bias * weight + bias
        )
    if isinstance(layer, Linear) and bool((weight == 1).all()):
        return dataclasses.replace(layer, bias=bias if layer.bias is None else layer.bias + bias)
    return None


def _scaling(weight: Tensor, bias: Tensor) -> BatchNorm:
    return BatchNorm(torch.zeros_like(weight), torch.ones_like(weight), weight, bias, eps=0.0)


def _per_channel(call: Call, stream: Stream, value: Any) -> Tensor:
    """A constant as one value a channel. Raises ImporterError where it varies otherwise."""
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
    "relu": activation("relu"),
    "relu6": activation("clipped_relu", 6.0),
    "tanh": activation("tanh"),
    "sigmoid": activation("sigmoid"),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "clamp_min", "clamp_max"), clamp),
    "minimum": minimum,
    "maximum": maximum,
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
}
"""The handler of every operator on single values, by the operator's name without overload."""

"""ATen operators that are activations, or limits of values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.operators.arithmetic import (
    largest,
    per_channel,
    scaled_by,
    smallest,
    subtract,
)
from tinyvox.importers.operators.call import Call
from tinyvox.importers.signal import Stream
from tinyvox.model import MOVING_ZERO, Activation, Layer, Multiply, Softmax


def activation(kind: str, limit: float | None = None) -> Callable[[Call], Stream]:
    """The handler of an elementwise function."""
    return lambda call: _activated(call, Activation(kind, limit))


def _activated(call: Call, layer: Activation) -> Stream:
    """An activation. One that maps 0 to 0 may stand before or after padding and windows."""
    stream = call.whole("self") if layer.kind in MOVING_ZERO else call.stream("self")
    stream = call.graph.finalize(call.graph.uncut(stream))
    if layer.kind == "relu" and _is_positive(call.graph.layer(stream.node)):
        return stream
    node = call.graph.add(layer, stream.node)
    return dataclasses.replace(stream, node=node)


def _is_positive(layer: Layer | None) -> bool:
    """Whether a layer gives no value below 0, so that a ReLU changes nothing."""
    kinds = ("relu", "clipped_relu", "sigmoid", "hardsigmoid", "softplus", "exp", "sqrt", "abs")
    return isinstance(layer, Softmax) or (isinstance(layer, Activation) and layer.kind in kinds)


def gelu(call: Call) -> Stream:
    """`gelu(self, approximate)`."""
    return _activated(call, Activation("gelu_tanh" if call["approximate"] == "tanh" else "gelu"))


Part = str | tuple[float, float]
"""A kind of activation, or a factor and an offset."""


def composed(*parts: Part) -> Callable[[Call], Stream]:
    """The handler of a function that is these in a row."""
    return lambda call: _composed(call, *parts)


def _composed(call: Call, *parts: Part) -> Stream:
    stream = call.whole("self")
    node = stream.node
    for part in parts:
        if isinstance(part, str):
            node = call.graph.add(Activation(part), node)
        else:
            node = scaled_by(call, node, *part)
    return stream.becomes(node, stream.axes)


def softplus(call: Call) -> Stream:
    """`softplus(self, beta, threshold)`, where the threshold changes nothing."""
    beta = call["beta"]
    if call["threshold"] < _LINEAR:
        raise ImporterError(
            f"is a softplus with threshold {call['threshold']}, expected {_LINEAR} or more"
        )
    if beta == 1:
        return _activated(call, Activation("softplus"))
    return _composed(call, (beta, 0.0), "softplus", (1 / beta, 0.0))


_LINEAR = 15
"""From here on softplus adds less than a float32 resolves."""


def power(call: Call) -> Stream:
    """`pow(self, exponent)` of a signal or of a number; a fractional power of values that are not
    negative."""
    if not isinstance(call["self"], Stream):
        base = math.log(float(call["self"]))
        return _composed(call.given(self=call["exponent"]), (base, 0.0), "exp")
    exponent = float(call["exponent"])
    if exponent in _POWERS:
        return _composed(call, *_POWERS[exponent])
    if exponent in (2, 3, 4):
        stream = call.whole("self")
        node = call.graph.add(Multiply(), *[stream.node] * int(exponent))
        return stream.becomes(node, stream.axes)
    if exponent.is_integer():
        raise ImporterError(f"takes the power {exponent:g}, expected -1, 1 to 4, or a fraction")
    return _composed(call, "log", (exponent, 0.0), "exp")


_POWERS: dict[float, tuple[Part, ...]] = {
    1.0: (),
    0.5: ("sqrt",),
    -1.0: ("reciprocal",),
    -0.5: ("sqrt", "reciprocal"),
}


def square(call: Call) -> Stream:
    """A signal times itself."""
    return power(call.given(self=call["self"], exponent=2))


def randomized(call: Call) -> Stream:
    """`rrelu(self, lower, upper, training)`, whose slope is random only while it is trained."""
    if call["training"]:
        raise ImporterError("rrelu in training mode; call .eval() on the module before export")
    return _activated(call, _leaky((float(call["lower"]) + float(call["upper"])) / 2))


def shrink(call: Call) -> Stream:
    """`softshrink(self, lambd)`: a signal without what its values have within the limits."""
    limits = clamp(call.given(self=call["self"], min=-call["lambd"], max=call["lambd"]))
    return subtract(call.given(self=call["self"], other=limits))


def leaky_relu(call: Call) -> Stream:
    """`leaky_relu(self, negative_slope)`."""
    return _activated(call, _leaky(call["negative_slope"]))


def _leaky(slope: float) -> Activation:
    return Activation("leaky_relu", slopes=torch.tensor([slope], dtype=torch.float32))


def prelu(call: Call) -> Stream:
    """`prelu(self, weight)`: one slope, or one for each step of dimension 1."""
    weight = call.tensor("weight")
    if weight.numel() == 1:
        return _activated(call, _leaky(float(weight)))
    stream = call.whole("self")
    spread = weight.view(-1, *[1] * (len(stream.axes) - 2))
    layer = Activation("leaky_relu", slopes=per_channel(call, stream, spread))
    return stream.becomes(call.graph.add(layer, stream.node), stream.axes)


def elu(call: Call) -> Stream:
    """`elu(self, alpha, scale, input_scale)`."""
    return _elu(call, call["alpha"], call["scale"], call["input_scale"])


def celu(call: Call) -> Stream:
    """`celu(self, alpha)`."""
    return _elu(call, call["alpha"], 1.0, 1.0 / call["alpha"])


def selu(call: Call) -> Stream:
    """`selu(self)`. Source: Klambauer et al., "Self-normalizing neural networks", 2017, eq. 2."""
    return _elu(call, 1.6732632423543772, 1.0507009873554805, 1.0)


def _elu(call: Call, alpha: float, scale: float, inner: float) -> Stream:
    """`scale * x` above 0, `scale * alpha * (exp(inner * x) - 1)` below.

    An ELU is below 0 where its input is, so that slopes after it give it another alpha.
    """
    stream = call.graph.finalize(call.stream("self"))
    node = scaled_by(call, stream.node, inner)
    node = call.graph.add(Activation("elu"), node)
    if alpha * inner != 1:
        node = call.graph.add(_leaky(alpha * inner), node)
    return dataclasses.replace(stream, node=scaled_by(call, node, scale / inner))


def clamp(call: Call) -> Stream:
    """Limits from below, from above, or both: `clamp`, `hardtanh`, `clamp_min`, `clamp_max`."""
    return _clamped(call, _limit(call, "min", "min_val"), _limit(call, "max", "max_val"))


def _clamped(call: Call, low: float | None, high: float | None) -> Stream:
    """Limits other than 0 are those of a ReLU between two offsets, unless one stands before."""
    if low == 0:
        return _activated(call, _clipped(high))
    before = call.graph.layer(call.stream("self").node)
    if low is not None:
        sign, offset, limit = 1.0, -low, None if high is None else high - low
    elif high is None:
        raise ImporterError("clamps to no limits, expected one or two numbers")
    elif high > 0 and _is_relu(before):
        return _limited(call, high)
    else:
        sign, offset, limit = -1.0, high, None
    stream = call.whole("self")
    node = scaled_by(call, stream.node, sign, offset)
    node = call.graph.add(_clipped(limit), node)
    return stream.becomes(scaled_by(call, node, sign, -sign * offset), stream.axes)


def _is_relu(layer: Layer | None) -> bool:
    """Whether a layer is a ReLU that has one limit at most."""
    is_relu = isinstance(layer, Activation) and layer.kind in ("relu", "clipped_relu")
    return is_relu and layer is not None and "limits" not in layer.vectors()


def _clipped(limit: float | None) -> Activation:
    return Activation("relu" if limit is None else "clipped_relu", limit)


def minimum(call: Call) -> Stream:
    """The minimum of two signals, or with a constant: one limit, or one for each channel, on what a
    ReLU gives."""
    if isinstance(call["self"], Stream) and isinstance(call["other"], Stream):
        return smallest(call)
    other = call.tensor("other")
    return _clamped(call, None, float(other)) if other.numel() == 1 else _limited_each(call, other)


def maximum(call: Call) -> Stream:
    """The maximum of two signals, or with a number."""
    if isinstance(call["self"], Stream) and isinstance(call["other"], Stream):
        return largest(call)
    other = call.tensor("other")
    if (other != other.flatten()[0]).any():
        raise ImporterError("takes the maximum with several numbers, expected one")
    return _clamped(call, float(other.flatten()[0]), None)


def _limit(call: Call, *names: str) -> float | None:
    """A limit; None where there is none, or an infinite one."""
    found = [float(call[name]) for name in names if call.arguments.get(name) is not None]
    return found[0] if found and math.isfinite(found[0]) else None


def _limited(call: Call, high: float) -> Stream:
    """An upper limit on the output of a ReLU makes it a clipped one."""
    stream = call.graph.finalize(call.stream("self"))
    before = call.graph.layer(stream.node)
    assert isinstance(before, Activation)
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
    limits = per_channel(call, stream, other)
    for known in (before.limit, before.limits):
        limits = limits if known is None else limits.clamp(max=known)
    source = call.graph.nodes[stream.node].inputs[0]
    node = call.graph.add(Activation("clipped_relu", None, limits), source)
    return stream.becomes(node, stream.axes)


ACTIVATIONS: dict[str, Callable[[Call], Any]] = {
    **{kind: activation(kind) for kind in ("relu", "tanh", "sigmoid", "silu")},
    **{kind: activation(kind) for kind in ("hardsigmoid", "hardswish", "mish", "softsign")},
    **{kind: activation(kind) for kind in ("exp", "sqrt", "log", "abs", "reciprocal")},
    "rsqrt": composed("sqrt", "reciprocal"),
    "log1p": composed((1.0, 1.0), "log"),
    "expm1": composed("exp", (1.0, -1.0)),
    "log2": composed("log", (1 / math.log(2), 0.0)),
    "log10": composed("log", (1 / math.log(10), 0.0)),
    "exp2": composed((math.log(2), 0.0), "exp"),
    "log_sigmoid": composed((-1.0, 0.0), "softplus", (-1.0, 0.0)),
    "log_sigmoid_forward": composed((-1.0, 0.0), "softplus", (-1.0, 0.0)),
    "pow": power,
    "square": square,
    "rrelu": randomized,
    "softshrink": shrink,
    "softplus": softplus,
    "relu6": activation("clipped_relu", 6.0),
    **dict.fromkeys(("clamp", "clip", "hardtanh", "clamp_min", "clamp_max"), clamp),
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "elu": elu,
    "celu": celu,
    "selu": selu,
    "minimum": minimum,
    "maximum": maximum,
}
"""The handler of every activation, by the operator's name without overload."""

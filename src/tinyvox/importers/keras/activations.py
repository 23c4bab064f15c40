"""Activation functions, by the names that Keras gives them, and the layers that are one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch

from tinyvox.errors import ImporterError
from tinyvox.importers.keras.call import Call, Outputs, affine
from tinyvox.importers.keras.settings import Settings, shown
from tinyvox.importers.signal import Stream
from tinyvox.model import Activation, Layer, LogSoftmax, Softmax


class Affine(NamedTuple):
    """`factor * x + offset`."""

    factor: float
    offset: float = 0.0


Steps = tuple[Layer | Affine, ...]
"""What makes up a function of each value alone."""


def _leaky(slope: float) -> Activation:
    return Activation("leaky_relu", slopes=torch.tensor([slope]))


def _elu(alpha: float, scale: float = 1.0) -> Steps:
    """An ELU is below 0 where its input is, so that a slope after it gives it another alpha."""
    steps: Steps = (Activation("elu"),)
    steps += () if alpha == 1 else (_leaky(alpha),)
    return steps if scale == 1 else (*steps, Affine(scale))


_FUNCTIONS: dict[str, Steps] = {
    "linear": (),
    **{kind: (Activation(kind),) for kind in ("relu", "tanh", "sigmoid", "softplus", "softsign")},
    **{kind: (Activation(kind),) for kind in ("mish", "silu")},
    "swish": (Activation("silu"),),
    "exponential": (Activation("exp"),),
    "relu6": (Activation("clipped_relu", 6.0),),
    "gelu": (Activation("gelu"),),
    "elu": _elu(1.0),
    "celu": _elu(1.0),
    # Klambauer et al., "Self-normalizing neural networks", 2017, equation 2.
    "selu": _elu(1.6732632423543772, 1.0507009873554805),
    "leaky_relu": (_leaky(0.2),),
    "hard_sigmoid": (Activation("hardsigmoid"),),
    **dict.fromkeys(("hard_silu", "hard_swish"), (Activation("hardswish"),)),
    "hard_tanh": (Affine(1.0, 1.0), Activation("clipped_relu", 2.0), Affine(1.0, -1.0)),
    "log_sigmoid": (Affine(-1.0), Activation("softplus"), Affine(-1.0)),
}
_SOFTMAXES: dict[str, Layer] = {"softmax": Softmax(), "log_softmax": LogSoftmax()}
_OLD_HARD_SIGMOID: Steps = (Affine(1.2), Activation("hardsigmoid"))
"""Keras 1 and 2: 0.2 x + 0.5. Keras 3, like the runtime: x / 6 + 0.5."""


def function_name(value: object) -> str:
    """The name of a function: a text, or what Keras 3 writes for one of its functions.

    Raises ImporterError for a function of somebody's own, whose code is not in the file.
    """
    given = value
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if value is None:
        return "linear"
    if isinstance(value, str) and value and ">" not in value:
        return value
    raise ImporterError(
        f"the activation {shown(given)} is a function of its own, whose formula is not in the "
        "file; build the model with one of Keras' own activations and save it again"
    )


def activate(call: Call, stream: Stream, value: object, part: str = "") -> Stream:
    """The stream after an activation given by its name, or by a layer's class and settings."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        layer = Settings(value)
        inner = dataclasses.replace(call.inner(layer, call.weights), inputs=[stream])
        if inner.kind not in ACTIVATION_LAYERS or inner.kind == "PReLU":
            raise ImporterError(f"the activation {inner.kind} is not supported")
        return _only(ACTIVATION_LAYERS[inner.kind](inner))
    name = function_name(value)
    if name in _SOFTMAXES:
        return _over_features(call, stream, _SOFTMAXES[name], part and name)
    if name == "hard_sigmoid" and call.legacy:
        return _elementwise(call, stream, _OLD_HARD_SIGMOID, part and name)
    if name not in _FUNCTIONS:
        raise ImporterError(
            f"the activation {name!r} is not supported, expected one of "
            f"{', '.join((*_FUNCTIONS, *_SOFTMAXES))}"
        )
    return _elementwise(call, stream, _FUNCTIONS[name], part and name)


def _only(outputs: Outputs) -> Stream:
    (stream,) = outputs
    assert stream is not None
    return stream


def _elementwise(call: Call, stream: Stream, steps: Steps, part: str = "") -> Stream:
    """Functions of each value, for which the order of the features does not matter."""
    if not steps:
        return stream
    stream = call.graph.whole(stream) if stream.window else stream.unpadded()
    channels = call.graph.signals[stream.node].shape[0]
    for step in steps:
        layer = affine(channels, *step) if isinstance(step, Affine) else step
        stream = call.add(layer, stream, part)
    return stream


def _over_features(call: Call, stream: Stream, layer: Layer, part: str = "") -> Stream:
    stream = call.graph.whole(stream)
    if stream.features() and stream.feature_dim() != stream.dim(-1):
        raise ImporterError(f"runs over the last dimension of {stream}, expected all features")
    return call.add(layer, stream, part)


def activation(call: Call) -> Outputs:
    """`Activation(activation)`."""
    return [activate(call, call.stream, call.config.get("activation"))]


def relu(call: Call) -> Outputs:
    """`ReLU(max_value, negative_slope, threshold)`."""
    limit = call.config.number("max_value") if "max_value" in call.config else None
    slope = call.config.number("negative_slope", 0.0)
    threshold = call.config.number("threshold", 0.0)
    if threshold or (slope and limit is not None):
        raise ImporterError(
            f"has max_value {limit}, negative_slope {slope} and threshold {threshold}; "
            "expected a limit alone or a slope alone"
        )
    if limit is not None:
        step = Activation("clipped_relu", limit)
    else:
        step = _leaky(slope) if slope else Activation("relu")
    return [_elementwise(call, call.stream, (step,))]


def leaky_relu(call: Call) -> Outputs:
    """`LeakyReLU`; Keras 2 calls the slope alpha."""
    key = "alpha" if "alpha" in call.config else "negative_slope"
    return [_elementwise(call, call.stream, (_leaky(call.config.number(key, 0.3)),))]


def prelu(call: Call) -> Outputs:
    """`PReLU`, with a slope for each feature that is the same for all frames."""
    stream = call.graph.whole(call.stream)
    shape = call.weights.next_shape() or ()
    features = stream.shape[-1]
    if not shape or any(size != 1 for size in shape[:-1]) or shape[-1] not in (1, features):
        raise ImporterError(
            f"has slopes of shape {list(shape)}, expected one for each of {features} features and "
            "the same for all frames: shared_axes=[1]"
        )
    slopes = call.once(lambda: call.take("slopes", *shape).flatten())
    return [call.add(Activation("leaky_relu", slopes=slopes), stream)]


def elu(call: Call) -> Outputs:
    """`ELU(alpha)`."""
    return [_elementwise(call, call.stream, _elu(call.config.number("alpha", 1.0)))]


def softmax(call: Call) -> Outputs:
    """`Softmax(axis)`, over the features."""
    call.check_last(call.stream)
    return [_over_features(call, call.stream, Softmax())]


ACTIVATION_LAYERS: dict[str, Callable[[Call], Outputs]] = {
    "Activation": activation,
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "PReLU": prelu,
    "ELU": elu,
    "Softmax": softmax,
}
"""The handler of every layer that is an activation, by its class."""

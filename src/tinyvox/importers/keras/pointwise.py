"""Keras layers on each frame: dense layers, normalization, sums and joins of signals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.axis_operations import concatenate
from tinyvox.importers.keras.activations import activate
from tinyvox.importers.keras.call import Call, Outputs, affine, filled
from tinyvox.importers.layer_graph import ColumnOrder
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Add, BatchNorm, Conv2d, Dense, Layer, LayerNorm, Linear, Multiply


def dense(call: Call) -> Outputs:
    """`Dense(units, activation, use_bias)`, over the last dimension."""
    stream, units = call.stream.unpadded(), call.config.count("units")
    if len(stream.axes) == 4 and stream.axes[-1] and stream.feature_dim() is None:
        return [_on_channels(call, stream, units)]
    node, order = call.graph.flat(stream, -1)
    size = call.graph.signals[node].size

    def build() -> Linear:
        return Linear(Dense(_weight(call, size, units, order)), _bias(call, units))

    call.place()
    added = call.graph.add(call.once(build, order), node)
    stream = stream.becomes(added, stream.with_axis(-1, Axis("feature", units)))
    return [activate(call, stream, call.config.get("activation"), "act")]


def _weight(call: Call, inputs: int, units: int, order: ColumnOrder = None) -> Tensor:
    """The matrix [out, in], its columns in the order of the node's features."""
    weight = call.take("kernel", inputs, units).T
    return (weight if order is None else weight[:, list(order)]).contiguous()


def _bias(call: Call, units: int) -> Tensor | None:
    return call.take("bias", units) if call.config.flag("use_bias", True) else None


def _on_channels(call: Call, stream: Stream, units: int) -> Stream:
    """A dense layer over the channels of frames with bands: a convolution of one step."""
    band = 2 if stream.is_time(1) else 1
    node, channels = call.graph.image(stream, 3, band), stream.shape[3]

    def build() -> Conv2d:
        return Conv2d(Dense(_weight(call, channels, units)), _bias(call, units), (1, 1))

    call.place()
    added = call.graph.add(call.once(build, "bands"), node)
    stream = stream.becomes(added, stream.with_axis(-1, Axis("feature", units, 0)))
    return activate(call, stream, call.config.get("activation"), "act")


def batch_norm(call: Call) -> Outputs:
    """`BatchNormalization(axis, epsilon, center, scale)` with the statistics of training."""
    stream, config = call.stream, call.config
    call.check_last(stream)
    node, order, size = _features(call, stream)

    def build() -> BatchNorm:
        weight = _scale(call, "gamma", size, order, "scale", 1.0)
        bias = _scale(call, "beta", size, order, "center", 0.0)
        mean, variance = (
            _ordered(call.weights.take(what, (size,)), order)
            for what in ("moving mean", "moving variance")
        )
        return BatchNorm(mean, variance, weight, bias, config.number("epsilon", 1e-3))

    call.place()
    layer: BatchNorm = call.once(build, order)
    return [dataclasses.replace(stream, node=call.graph.add(layer, node))]


def _features(call: Call, stream: Stream) -> tuple[str, ColumnOrder, int]:
    """The node whose channels a norm takes, their order in the norm's vectors, their number."""
    stream.unpadded()
    if len(stream.axes) == 4 and stream.feature_dim() is None and stream.features():
        return call.graph.image(stream, 3, 2 if stream.is_time(1) else 1), None, stream.shape[3]
    node, order = call.graph.flat(stream, -1)
    return node, order, call.graph.signals[node].size


def _scale(
    call: Call, what: str, size: int, order: ColumnOrder, key: str, default: float
) -> Tensor:
    if call.config.flag(key, True):
        return _ordered(call.take(what, size), order)
    return filled(size, default)


def _ordered(vector: Tensor, order: ColumnOrder) -> Tensor:
    return vector if order is None else vector[list(order)]


def layer_norm(call: Call) -> Outputs:
    """`LayerNormalization(axis, epsilon, center, scale)` over the features of each frame."""
    stream, config = call.stream.unpadded(), call.config
    call.check_last(stream)
    if config.flag("rms_scaling"):
        raise ImporterError("rms_scaling is not supported, expected mean 0 and variance 1")
    node, order = call.graph.flat(stream, -1)
    size = call.graph.signals[node].size

    def build() -> LayerNorm:
        weight = _scale(call, "gamma", size, order, "scale", 1.0)
        bias = _scale(call, "beta", size, order, "center", 0.0)
        return LayerNorm(weight, bias, config.number("epsilon", 1e-3))

    call.place()
    layer: LayerNorm = call.once(build, order)
    return [dataclasses.replace(stream, node=call.graph.add(layer, node))]


def _combined(call: Call, layer: Layer) -> Stream:
    """Two or more signals of one layout, value by value."""
    streams = [call.graph.whole(s) if s.window else s.unpadded() for s in call.inputs]
    if len(streams) < 2 or len({(s.axes, s.backwards) for s in streams}) != 1:
        found = ", ".join(map(str, streams))
        raise ImporterError(f"combines {found}; expected two or more signals of equal layouts")
    call.place()
    node = call.graph.add(layer, *(s.node for s in streams))
    return dataclasses.replace(streams[0], node=node)


def add(call: Call) -> Outputs:
    """`Add()`."""
    return [_combined(call, Add())]


def multiply(call: Call) -> Outputs:
    """`Multiply()`."""
    return [_combined(call, Multiply())]


def average(call: Call) -> Outputs:
    """`Average()`."""
    stream = _combined(call, Add())
    return [_scaled(call, stream, 1 / len(call.inputs))]


def subtract(call: Call) -> Outputs:
    """`Subtract()`."""
    if len(call.inputs) != 2:
        raise ImporterError(f"takes {len(call.inputs)} inputs, expected 2")
    one, two = call.inputs
    both = [one, _scaled(call, two.unpadded(), -1.0)]
    return [_combined(dataclasses.replace(call, inputs=both), Add())]


def _scaled(call: Call, stream: Stream, factor: float) -> Stream:
    channels = call.graph.signals[stream.node].shape[0]
    return call.add(affine(channels, factor, 0.0), stream, "scale")


def joined(call: Call) -> Outputs:
    """`Concatenate(axis)` of features."""
    if len(call.inputs) < 2:
        raise ImporterError("joins one signal, expected two or more")
    for stream in call.inputs:
        call.check_last(stream)
    call.place()
    streams = [call.graph.whole(stream) for stream in call.inputs]
    return [concatenate(call.graph, streams, -1)]


POINTWISE: dict[str, Callable[[Call], Outputs]] = {
    "Dense": dense,
    **dict.fromkeys(("BatchNormalization", "BatchNormalizationV1"), batch_norm),
    "LayerNormalization": layer_norm,
    "Add": add,
    "Multiply": multiply,
    "Average": average,
    "Subtract": subtract,
    **dict.fromkeys(("Concatenate", "Concat"), joined),
}
"""The handler of every layer on single frames, by its class."""

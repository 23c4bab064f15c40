"""Every layer as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvox.executor import span_of
from tinyvox.exporters.onnx import windows
from tinyvox.exporters.onnx.building import ALL, Building, Length
from tinyvox.exporters.onnx.recurrent import recurrent
from tinyvox.exporters.onnx.scanning import elementwise_recurrence
from tinyvox.model import Layer, Matrix, Product, Signal, layers

TINY, NEAREST = float(torch.finfo(torch.float32).tiny), 2.0**-63
SIGMOID_SLOPE = 1 / 6


def _linear(build: Building, layer: layers.Linear, x: str) -> str:
    y = build.times(x, "weight", layer.weight)
    return y if layer.bias is None else build.graph.op("Add", y, build.vector("bias", layer.bias))


def _factors(field: str, matrix: Matrix, groups: int) -> list[tuple[str, Matrix]]:
    """The matrices of a convolution, the first with the kernel, the others without: a product is
    one convolution after another, but where groups of rows read different channels."""
    if not isinstance(matrix, Product) or groups > 1:
        return [(field, matrix)]
    right = _factors(f"{field}.right", matrix.right, groups)
    return right + _factors(f"{field}.left", matrix.left, groups)


def _convolved(
    build: Building, layer: Any, x: str, kernel: tuple[int, ...], settings: dict[str, Any]
) -> str:
    """Convolutions of [1, channels, frames] or [1, channels, frames, bands]."""
    factors = _factors("weight", layer.weight, layer.groups)
    for i, (field, matrix) in enumerate(factors):
        shape = kernel if i == 0 else (1,) * len(kernel)
        columns = matrix.shape[1] // int(np.prod(shape))
        weight = build.graph.reshape(build.values(field, matrix), matrix.shape[0], columns, *shape)
        last = i == len(factors) - 1 and layer.bias is not None
        bias = [build.vector("bias", layer.bias)] if last else []
        x = build.graph.op("Conv", x, weight, *bias, **(settings if i == 0 else {}))
    return x


def _conv1d(build: Building, layer: layers.Conv1d, x: str) -> str:
    settings: dict[str, Any] = {"strides": [layer.stride], "dilations": [layer.dilation]}
    settings |= {"pads": list(layer.padding), "group": layer.groups}
    y = build.graph.transpose(x, 0, 2, 1)
    y = _convolved(build, layer, y, (layer.kernel,), settings)
    return build.graph.transpose(y, 0, 2, 1)


def _conv2d(build: Building, layer: layers.Conv2d, x: str) -> str:
    before, after, below, above = layer.padding
    settings: dict[str, Any] = {"strides": list(layer.stride), "dilations": list(layer.dilation)}
    settings |= {"pads": [before, below, after, above], "group": layer.groups}
    y = build.graph.transpose(x, 0, 2, 1, 3)
    y = _convolved(build, layer, y, layer.kernel, settings)
    return build.graph.transpose(y, 0, 2, 1, 3)


def _batch_norm(build: Building, layer: layers.BatchNorm, x: str, banded: bool) -> str:
    factor = layer.weight / torch.sqrt(layer.variance + layer.eps)
    offset = layer.bias - layer.mean * factor
    factor, offset = (_on_channels(v, banded) for v in (factor, offset))
    scaled = build.graph.op("Mul", x, build.vector("factor", factor))
    return build.graph.op("Add", scaled, build.vector("offset", offset))


def _on_channels(vector: Tensor, banded: bool) -> Tensor:
    return vector[:, None] if banded else vector


def _layer_norm(build: Building, layer: layers.LayerNorm, x: str) -> str:
    vectors = build.vector("weight", layer.weight), build.vector("bias", layer.bias)
    graph = build.graph
    if layer.kind == "layer" and layer.groups == 1:
        return graph.op("LayerNormalization", x, *vectors, axis=-1, epsilon=layer.eps)
    grouped = graph.reshape(x, 0, 0, layer.groups, -1)
    if layer.kind == "layer":
        mean = graph.op("ReduceMean", grouped, graph.integers(-1))
        grouped = graph.op("Sub", grouped, mean)
    squares = graph.op("ReduceMean", graph.op("Mul", grouped, grouped), graph.integers(-1))
    deviation = graph.op("Sqrt", graph.op("Add", squares, graph.number(layer.eps)))
    scaled = graph.reshape(graph.op("Div", grouped, deviation), 0, 0, -1)
    return graph.op("Add", graph.op("Mul", scaled, vectors[0]), vectors[1])


def _activation(build: Building, layer: layers.Activation, x: str, banded: bool) -> str:
    graph = build.graph
    if layer.limits is not None:
        limits = build.vector("limits", _on_channels(layer.limits, banded))
        return graph.op("Min", graph.op("Relu", x), limits)
    if layer.slopes is not None:
        return graph.op("PRelu", x, build.vector("slopes", _on_channels(layer.slopes, banded)))
    if layer.kind == "clipped_relu":
        assert layer.limit is not None
        return graph.op("Clip", x, graph.number(0), graph.number(layer.limit))
    if layer.kind == "silu":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    if layer.kind == "exp":
        return graph.op("Exp", graph.op("Clip", x, "", graph.number(88)))
    if layer.kind == "log":
        return graph.op("Log", graph.op("Clip", x, graph.number(TINY)))
    if layer.kind == "reciprocal":
        least = graph.op("Max", graph.op("Abs", x), graph.number(NEAREST))
        below = graph.op("Less", x, graph.number(0))
        return graph.op("Reciprocal", graph.op("Where", below, graph.op("Neg", least), least))
    if layer.kind == "sqrt":
        return graph.op("Sqrt", graph.op("Relu", x))
    kind, settings = _ELEMENTWISE[layer.kind]
    return graph.op(kind, x, **settings)


_ELEMENTWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "elu": ("Elu", {}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "hardsigmoid": ("HardSigmoid", {"alpha": SIGMOID_SLOPE, "beta": 0.5}),
    "hardswish": ("HardSwish", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "mish": ("Mish", {}),
    "abs": ("Abs", {}),
}
"""The activations that are one operator."""


def _context_window(build: Building, layer: layers.ContextWindow, x: str) -> str:
    count = layer.left + 1 + layer.right
    return _windows(build, build.padded(x, layer.left, layer.right), count, 1)


def _frame_stacking(build: Building, layer: layers.FrameStacking, x: str) -> str:
    return _windows(build, x, layer.count, layer.stride)


def _windows(build: Building, x: str, count: int, stride: int) -> str:
    """`count` frames in one, every `stride` frames."""
    if count == 1:
        return x if stride == 1 else build.frames(x, 0, step=stride)
    ends = [*range(1 - count, 0), ALL]
    parts = [build.frames(x, i, end, stride) for i, end in enumerate(ends)]
    return build.graph.op("Concat", *parts, axis=2)


def _subsample(build: Building, layer: layers.Subsample, x: str) -> str:
    return build.frames(x, 0, step=layer.factor)


def _slice(build: Building, layer: layers.Slice, x: str) -> str:
    return build.graph.slice(x, layer.start, build.graph.integers(layer.stop), 2)


def _unflatten(build: Building, layer: layers.Unflatten, x: str) -> str:
    return build.graph.reshape(x, 0, 0, layer.channels, -1)


def _flatten(build: Building, layer: layers.Flatten, x: str) -> str:
    return build.graph.reshape(x, 0, 0, -1)


def _add(build: Building, layer: layers.Add, *inputs: str) -> str:
    return _folded(build, "Add", inputs)


def _multiply(build: Building, layer: layers.Multiply, *inputs: str) -> str:
    return _folded(build, "Mul", inputs)


def _folded(build: Building, kind: str, inputs: tuple[str, ...]) -> str:
    result = inputs[0]
    for other in inputs[1:]:
        result = build.graph.op(kind, result, other)
    return result


def _concat(build: Building, layer: layers.Concat, *inputs: str) -> str:
    return build.graph.op("Concat", *inputs, axis=2)


def _log_softmax(build: Building, layer: layers.LogSoftmax, x: str) -> str:
    return build.graph.op("LogSoftmax", x, axis=-1)


def _embedding(build: Building, layer: layers.Embedding, x: str) -> str:
    ids = build.graph.cast(build.graph.reshape(x, 0, 0), "int64")
    return build.graph.op("Gather", build.values("weight", layer.weight), ids, axis=0)


_EXPORT: dict[type[Layer], Callable[..., str]] = {
    layers.Linear: _linear,
    layers.Recurrent: recurrent,
    layers.Conv1d: _conv1d,
    layers.Conv2d: _conv2d,
    layers.BatchNorm: _batch_norm,
    layers.LayerNorm: _layer_norm,
    layers.Activation: _activation,
    layers.ContextWindow: _context_window,
    layers.FrameStacking: _frame_stacking,
    layers.Subsample: _subsample,
    layers.Slice: _slice,
    layers.Unflatten: _unflatten,
    layers.Flatten: _flatten,
    layers.Add: _add,
    layers.Multiply: _multiply,
    layers.Reduce: windows.reduce,
    layers.Concat: _concat,
    layers.Softmax: windows.softmax,
    layers.LogSoftmax: _log_softmax,
    layers.Pool: windows.pool,
    layers.Take: windows.take,
    layers.FrameUnstacking: windows.frame_unstacking,
    layers.Spread: windows.spread,
    layers.Embedding: _embedding,
    layers.ElementwiseRecurrence: elementwise_recurrence,
}
_BY_SHAPE = (layers.BatchNorm, layers.Activation)
"""Layers whose vectors lie along another axis where frames have bands."""


def add_layer(build: Building, name: str, layer: Layer, inputs: list[str], signal: Signal) -> str:
    """Add a layer to the graph; returns the name of its output, a signal of this shape."""
    build.layer = build.graph.place = name
    build.shape = signal.shape
    if isinstance(layer, layers.Spread):
        length = build.lengths[inputs[1]]
    else:
        inputs, length = build.aligned(inputs)
    facts: list[int] = [len(signal.shape) == 2] if isinstance(layer, _BY_SHAPE) else []
    facts += [signal.size] if isinstance(layer, layers.ElementwiseRecurrence) else []
    output = _EXPORT[type(layer)](build, layer, *inputs, *facts)
    build.lengths[output] = _length_after(layer, length)
    return output


def _length_after(layer: Layer, length: Length) -> Length:
    if isinstance(layer, layers.Reduce):
        return ("one frame",)
    if isinstance(layer, layers.FrameUnstacking):
        return (*length, ("apart", layer.count))
    reach, stride, padding = span_of(layer)
    change = padding - reach + 1, stride
    return length if change == (0, 1) else (*length, change)

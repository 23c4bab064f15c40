"""Layers over time and bands without tensors, as ONNX operators."""

from __future__ import annotations

from typing import Any

from tinyvox.exporters.onnx.building import Building
from tinyvox.model import layers


def reduce(build: Building, layer: layers.Reduce, x: str) -> str:
    """One frame of all."""
    graph = build.graph
    if layer.kind == "last":
        return build.frames(x, -1)
    if layer.kind == "first":
        return build.frames(x, 0, 1)
    if layer.kind == "middle":
        return graph.op("Gather", x, graph.op("Div", _count(build, x), graph.integers(2)), axis=1)
    if layer.kind.startswith("variance"):
        return _variance(build, layer.kind == "variance_unbiased", x)
    return _over_time(build, _REDUCTIONS[layer.kind], x)


_REDUCTIONS = {"mean": "ReduceMean", "max": "ReduceMax", "sum": "ReduceSum"}


def _over_time(build: Building, kind: str, x: str) -> str:
    return build.graph.op(kind, x, build.graph.integers(1), keepdims=1)


def _count(build: Building, x: str) -> str:
    """The number of frames, an int64 vector of one."""
    return build.graph.op("Shape", x, start=1, end=2)


def _variance(build: Building, unbiased: bool, x: str) -> str:
    graph = build.graph
    apart = graph.op("Sub", x, _over_time(build, "ReduceMean", x))
    squares = graph.op("Mul", apart, apart)
    if not unbiased:
        return _over_time(build, "ReduceMean", squares)
    one = graph.integers(1)
    divisor = graph.op("Max", graph.op("Sub", _count(build, x), one), one)
    return graph.op("Div", _over_time(build, "ReduceSum", squares), graph.cast(divisor, "float"))


def softmax(build: Building, layer: layers.Softmax, x: str) -> str:
    """The softmax over features or time."""
    return build.graph.op("Softmax", x, axis=-1 if layer.over == "features" else 1)


def pool(build: Building, layer: layers.Pool, x: str) -> str:
    """Pooling of [1, channels, frames], and of [1, channels, frames, bands]."""
    before, after, below, above = layer.padding
    settings: dict[str, Any] = {"kernel_shape": list(layer.kernel), "strides": list(layer.stride)}
    settings["pads"] = [before, below, after, above]
    if len(build.shape) == 1:
        settings = {key: list(value[::2]) for key, value in settings.items()}
    order = (0, 2, 1) if len(build.shape) == 1 else (0, 2, 1, 3)
    kind = "MaxPool" if layer.kind == "max" else "AveragePool"
    if kind == "AveragePool":
        settings["count_include_pad"] = int(layer.kind == "mean")
    y = build.graph.op(kind, build.graph.transpose(x, *order), **settings)
    return build.graph.transpose(y, *order)


def take(build: Building, layer: layers.Take, x: str) -> str:
    """Values by their places; a zero is a value that is put after the last one."""
    graph, axis = build.graph, 2 + layer.axis
    if min(layer.indices) == layers.ZERO:
        x = graph.op("Pad", x, graph.integers(0, 1), "", graph.integers(axis))
    return graph.op("Gather", x, graph.integers(*layer.indices), axis=axis)


def frame_unstacking(build: Building, layer: layers.FrameUnstacking, x: str) -> str:
    """Several frames out of each."""
    return build.graph.reshape(x, 0, -1, *build.shape)


def spread(build: Building, layer: layers.Spread, one: str, other: str) -> str:
    """One frame for each frame of another signal."""
    graph = build.graph
    ends = graph.integers(1), graph.integers(*[1] * len(build.shape))
    return graph.op(
        "Expand", one, graph.op("Concat", ends[0], _count(build, other), ends[1], axis=0)
    )

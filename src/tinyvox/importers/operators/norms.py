"""ATen operators that normalize: with fixed statistics, or each frame by its own."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import axis_operations as operations
from tinyvox.importers.operators.arithmetic import add, divide, multiply, scaled_by, subtract
from tinyvox.importers.operators.call import Call
from tinyvox.importers.per_frame import in_order_of_dims, linear_map, outside, rearranged
from tinyvox.importers.reduction import reduced
from tinyvox.importers.signal import Axis, Stream, feature_dims
from tinyvox.model import Activation, BatchNorm, LayerNorm, Unflatten


def batch_norm(call: Call) -> Stream:
    """Batch norm in evaluation mode, over features, or over the channels of frames with bands."""
    if call["training"] or call["running_mean"] is None:
        raise ImporterError("batch norm in training mode; call .eval() on the module before export")
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    weight, bias = call.optional("weight"), call.optional("bias")
    layer = BatchNorm(
        mean,
        variance,
        torch.ones_like(mean) if weight is None else weight,
        torch.zeros_like(mean) if bias is None else bias,
        call["eps"],
    )
    stream = call.whole("input")
    if stream.feature_dim() != 1:
        return _norm_channels(call, layer, call.graph.settled(call.stream("input")))
    return stream.becomes(call.graph.add(layer, stream.node), stream.axes)


def _norm_channels(call: Call, layer: BatchNorm, stream: Stream) -> Stream:
    """Batch norm of frames of shape (channels, bands), in two dimensions."""
    bands = [i for i in range(len(stream.axes)) if i != 1 and not stream.is_time(i)]
    band = next((i for i in bands if any(a.kind == "feature" for a in stream.axes[i])), None)
    if band is None:
        raise ImporterError(f"takes the channels in dimension 1, found {stream}")
    node = call.graph.add(layer, call.graph.image(stream, 1, band))
    axes = stream.with_axis(band, Axis("feature", stream.shape[band], 1))
    return stream.becomes(node, axes)


def layer_norm(call: Call) -> Stream:
    """`layer_norm(input, normalized_shape, weight, bias, eps)`, over features of a frame."""
    return _over_last(call, "layer", call["eps"], call.optional("bias"))


def rms_norm(call: Call) -> Stream:
    """`rms_norm(input, normalized_shape, weight, eps)`."""
    eps = call["eps"]
    return _over_last(call, "rms", torch.finfo(torch.float32).eps if eps is None else eps, None)


def _over_last(call: Call, kind: str, eps: float, bias: Tensor | None) -> Stream:
    """A norm over the last dimensions, as many as `normalized_shape` has."""
    count = len(call["normalized_shape"])
    weight = call.optional("weight")
    return normalized(call, call.whole("input"), range(-count, 0), kind, eps, weight, bias)


def frame_norm(call: Call) -> Stream:
    """What `fusion_norms` found: a norm that the source writes step by step."""
    stream, weight, factor = call.whole("input"), call["weight"], call["factor"]
    dims = [stream.dim(dim) for dim in call["dims"]]
    if any(len({axis.kind for axis in axes}) > 1 for axes in stream.axes) and weight is None:
        return _norm_apart(call, stream, dims)
    if len(dims) == 1 and stream.is_time(dims[0]) and call["kind"] == "layer":
        return _each_over_time(call, stream, dims[0])
    factors = torch.full([stream.shape[dim] for dim in dims], factor)
    if weight is not None:
        shape = [1 if i not in dims else stream.shape[i] for i in range(len(stream.axes))]
        factors = factors * weight.expand(shape).reshape(factors.shape)
    return normalized(call, stream, dims, call["kind"], call["eps"], factors, None)


def _norm_apart(call: Call, stream: Stream, dims: Sequence[int]) -> Stream:
    """The norm where frames and features are merged in another dimension: these are taken apart,
    and merged again."""
    ends = [0, *itertools.accumulate(len(_each(axes)) for axes in stream.axes)]
    apart = [part for axes in stream.axes for part in _each(axes)]
    inside = [place for dim in dims for place in range(ends[dim], ends[dim + 1])]
    parts = dataclasses.replace(stream, axes=tuple(apart))
    found = frame_norm(call.given(**{**call.arguments, "input": parts, "dims": inside}))
    merged = tuple(sum(found.axes[slice(*pair)], ()) for pair in itertools.pairwise(ends))
    return dataclasses.replace(found, axes=merged)


def _each(axes: tuple[Axis, ...]) -> list[tuple[Axis, ...]]:
    """A dimension for each axis of one, or one without."""
    return [(axis,) for axis in axes] or [()]


def normalized(
    call: Call,
    stream: Stream,
    dims: Sequence[int],
    kind: str,
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
) -> Stream:
    """A norm over dimensions of features. Weight and bias have the shape of these dimensions."""
    dims = [stream.dim(dim) for dim in dims]
    _check_features(stream, dims)
    all_dims = feature_dims(stream)
    others = [dim for dim in all_dims if dim not in dims]
    if others and all_dims[-1] not in dims:
        turned = operations.transpose(stream, others[0], dims[-1])
        turned = normalized(call, turned, [others[0]], kind, eps, weight, bias)
        return operations.transpose(turned, others[0], dims[-1])
    stream = in_order_of_dims(call.graph, stream)
    size = math.prod(stream.shape[dim] for dim in all_dims)
    groups = math.prod(stream.shape[dim] for dim in others)
    weight, bias = (
        filled if given is None else given.flatten().repeat(groups)
        for given, filled in ((weight, torch.ones(size)), (bias, torch.zeros(size)))
    )
    return _normalized_flat(call, stream, LayerNorm(weight, bias, eps, kind, groups))


def _normalized_flat(call: Call, stream: Stream, layer: LayerNorm) -> Stream:
    shape = call.graph.signals[stream.node].shape
    node = call.graph.add(layer, call.graph.flatten(stream.node))
    if len(shape) > 1:
        node = call.graph.add(Unflatten(shape[0]), node)
    return stream.becomes(node, stream.axes)


def _check_features(stream: Stream, dims: Sequence[int]) -> None:
    outer = outside(stream)
    if any(axis.kind == "time" for dim in dims for axis in outer[dim]):
        raise ImporterError(
            f"normalizes {stream} over time: this needs the whole utterance before its first frame "
            "is known; use a BatchNorm, or a LayerNorm of each frame"
        )
    if any(outer[dim] for dim in dims) or not any(stream.axes[dim] for dim in dims):
        raise ImporterError(f"normalizes dimensions {list(dims)} of {stream}, expected features")


def group_norm(call: Call) -> Stream:
    """`group_norm(input, num_groups, weight, bias, eps)`: dimension 1 has the channels."""
    return _grouped(call, call["num_groups"])


def instance_norm(call: Call) -> Stream:
    """`instance_norm`: each channel by itself; with running statistics it is a batch norm."""
    if not call["use_input_stats"]:
        return batch_norm(call.given(**call.arguments, training=False))
    stream = call.whole("input")
    if stream.is_time(1) and call["weight"] is None:  # each frame is a channel
        dims = range(2, len(stream.axes))
        return normalized(call, stream, dims, "layer", call["eps"], None, None)
    return _grouped(call, call.stream("input").shape[1])


def _grouped(call: Call, groups: int) -> Stream:
    stream = call.whole("input")
    if len(times := [dim for dim in range(2, len(stream.axes)) if stream.is_time(dim)]) == 1:
        return _over_utterance(call, stream, times[0], groups)
    _check_features(stream, range(1, len(stream.axes)))
    channels, size = stream.shape[1], math.prod(stream.shape[1:])
    stream = in_order_of_dims(call.graph, stream)
    weight, bias = (
        values.repeat_interleave(size // channels)
        for values in (
            torch.ones(channels) if call["weight"] is None else call.tensor("weight"),
            torch.zeros(channels) if call["bias"] is None else call.tensor("bias"),
        )
    )
    return _normalized_flat(call, stream, LayerNorm(weight, bias, call["eps"], "layer", groups))


def _each_over_time(call: Call, stream: Stream, time: int) -> Stream:
    """What `fusion_norms` found: each feature with mean 0 and variance 1 over all frames."""
    count, factor = stream.shape[time], call["factor"] ** -2
    kind = "variance" if math.isclose(factor, 1, rel_tol=1e-6) else "variance_unbiased"
    if kind == "variance_unbiased" and not math.isclose(factor * (count - 1), count, rel_tol=1e-6):
        raise ImporterError(f"divides {stream} by {factor:.3g} times the variance over time")
    mean, variance = (reduced(call.graph, stream, each, (time,), True) for each in ("mean", kind))
    centered = subtract(call.given(self=stream, other=mean))
    found = _over_deviation(call, centered, variance, call["eps"] * factor)
    weight = call["weight"]
    return found if weight is None else multiply(call.given(self=found, other=weight))


def _over_utterance(call: Call, stream: Stream, time: int, groups: int) -> Stream:
    """Each group of channels with mean 0 and variance 1 over all frames; then the factors and
    offsets of the channels."""
    mean = _means(call, stream, time, groups)
    centered = subtract(call.given(self=stream, other=mean))
    squares = multiply(call.given(self=centered, other=centered))
    found = _over_deviation(call, centered, _means(call, squares, time, groups), call["eps"])
    for name, apply in (("weight", multiply), ("bias", add)):
        if call[name] is not None:
            values = call.tensor(name).view(-1, *[1] * (len(stream.axes) - 2))
            found = apply(call.given(self=found, other=values))
    return found


def _over_deviation(call: Call, centered: Stream, variance: Stream, eps: float) -> Stream:
    node = call.graph.add(Activation("sqrt"), scaled_by(call, variance.node, 1.0, eps))
    deviation = dataclasses.replace(variance, node=node)
    return divide(call.given(self=centered, other=deviation))


def _means(call: Call, stream: Stream, time: int, groups: int) -> Stream:
    """The mean of each group of channels over all frames, once for each of its channels."""
    graph, rest = call.graph, [1] * (len(stream.axes) - 2)
    each = stream.shape[1] // groups
    mean = linear_map(
        graph,
        reduced(graph, stream, "mean", (time,), True),
        lambda frame: frame.reshape(groups, -1).mean(1).view(1, groups, *rest),
    )
    return rearranged(graph, mean, lambda frame: frame.repeat_interleave(each, 1))


NORM_OPERATORS: dict[str, Callable[[Call], Any]] = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "frame_norm": frame_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
}
"""The handler of every norm, by the operator's name without overload."""

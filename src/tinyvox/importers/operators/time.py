"""ATen operators over the whole time of an utterance: softmax, weighted sums, statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tinyvox.errors import ImporterError
from tinyvox.importers.broadcasting import alike
from tinyvox.importers.layer_graph import picked
from tinyvox.importers.operators.call import Call
from tinyvox.importers.operators.features import averaged, is_features, variance
from tinyvox.importers.reduction import reduced
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Activation, Dense, Linear, Multiply, Reduce, Softmax, Unflatten


def over_time(call: Call, stream: Stream) -> Stream:
    """The softmax over the frames of a whole signal."""
    shape = call.graph.signals[stream.node].shape
    node = call.graph.add(Softmax("time"), call.graph.flatten(stream.node))
    node = call.graph.add(Unflatten(shape[0]), node) if len(shape) > 1 else node
    return stream.becomes(node, stream.axes)


def weighted_sum(call: Call, left: Stream, right: Stream) -> Stream:
    """The product of two signals as matrices, [batch, m, k] times [batch, k, n]: over time, where k
    are the frames, or over features."""
    if len(left.axes) < 2 or len(right.axes) < 2:
        raise ImporterError(f"multiplies {left} by {right}, expected matrices")
    if left.is_time(-1) and right.is_time(-2):
        return _over_frames(call, call.graph.whole(left), call.graph.whole(right))
    if not any(axis.kind == "time" for axis in (*left.axes[-1], *right.axes[-2])):
        return _over_features(call, call.graph.whole(left), call.graph.whole(right))
    raise ImporterError(f"multiplies {left} by {right}, expected a sum over frames or features")


def _over_frames(call: Call, left: Stream, right: Stream) -> Stream:
    """For each utterance the sum of the outer products of the frames."""
    graph, lifted = call.graph, ((),) * (len(right.axes) - len(left.axes))
    left = dataclasses.replace(left, axes=lifted + left.axes)
    rows, columns = graph.signals[left.node].size, graph.signals[right.node].size
    if left.axes[:-2] != right.axes[:-2] or left.backwards != right.backwards:
        raise ImporterError(f"multiplies {left} by {right}, expected equal batches and frames")
    one = picked(graph, graph.flatten(left.node), [i for i in range(rows) for _ in range(columns)])
    two = picked(graph, graph.flatten(right.node), [*range(columns)] * rows)
    node = graph.add(Reduce("sum"), graph.add(Multiply(), one, two))
    features = [Axis("feature", size) for size in (rows, columns)]
    if min(rows, columns) > 1:
        node = graph.add(Unflatten(rows), node)
        features[1] = dataclasses.replace(features[1], index=1)
    axes = (*left.axes[:-2], *((axis,) if axis.size > 1 else () for axis in features))
    return Stream(node, axes)


def _over_features(call: Call, left: Stream, right: Stream) -> Stream:
    """For each frame its product with a vector that is a signal too, such as a query."""
    graph = call.graph
    if left.axes[-2] and right.axes[-1]:
        raise ImporterError(f"multiplies {left} by {right}, expected a vector on one side")
    turned = dataclasses.replace(right, axes=(*right.axes[:-2], right.axes[-1], right.axes[-2]))
    one, two = alike(graph, left, turned)
    node = graph.flatten(graph.add(Multiply(), one.node, two.node))
    size = graph.signals[node].size
    node = graph.add(Linear(Dense(torch.ones(1, size))), node)
    axes = (*one.axes[:-1], ()) if not right.axes[-1] else (*one.axes[:-2], (), one.axes[-2])
    return one.becomes(node, axes)


def deviation(root: bool) -> Callable[[Call], Any]:
    """The handler of `std` and `var` over time: `(self, dim, correction, keepdim)`, or `unbiased`
    in place of the correction."""
    return lambda call: _deviation(call, root)


def with_mean(root: bool) -> Callable[[Call], Any]:
    """The handler of `std_mean` and `var_mean`."""
    return lambda call: (
        _deviation(call, root),
        _mean(call, call.stream("self"), call["dim"] or (), call["keepdim"]),
    )


def _mean(call: Call, stream: Stream, dims: Sequence[int], keep: bool) -> Stream:
    if is_features(stream, dims):
        return averaged(call, call.graph.whole(stream), dims, keep)
    return reduced(call.graph, stream, "mean", dims, keep)


def _deviation(call: Call, root: bool) -> Stream:
    is_of_frames = is_features(call.stream("self"), call.arguments.get("dim") or ())
    stream = variance(call) if is_of_frames else _over_time(call)
    node = call.graph.add(Activation("sqrt"), stream.node) if root else stream.node
    return dataclasses.replace(stream, node=node)


def _over_time(call: Call) -> Stream:
    """The variance over the frames of an utterance."""
    correction = call.arguments.get("correction")
    if correction is None:
        correction = int(call.arguments.get("unbiased", True))
    if correction not in (0, 1):
        raise ImporterError(f"divides by the count less {correction}, expected 0 or 1")
    kind = "variance_unbiased" if correction else "variance"
    dims, keep = call.arguments.get("dim") or (), call.arguments.get("keepdim", False)
    return reduced(call.graph, call.stream("self"), kind, dims, keep)


TIME_OPERATORS: dict[str, Callable[[Call], Any]] = {
    "std": deviation(True),
    "var": deviation(False),
    "std_mean": with_mean(True),
    "var_mean": with_mean(False),
}
"""The handler of every operator over whole utterances, by the operator's name without overload."""

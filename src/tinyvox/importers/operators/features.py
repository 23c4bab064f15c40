"""ATen operators on the features of each frame: parts of them, sums, matrices times them."""

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
from tinyvox.importers.final_states import States
from tinyvox.importers.operators.arithmetic import largest, multiply, scaled_by, subtract
from tinyvox.importers.operators.call import Call
from tinyvox.importers.operators.masks import all_of
from tinyvox.importers.per_frame import linear_map, outside, rearranged
from tinyvox.importers.reduction import reduced
from tinyvox.importers.signal import Axes, Stream
from tinyvox.model import Activation, Add, Multiply

_FEW = 8
"""Parts that are added one by one; more are summed by a matrix."""


def parts(call: Call) -> tuple[Stream, ...]:
    """`chunk`, `split` and the like: parts of a dimension, one after the other."""
    stream, dim = call.stream("self"), call["dim"]
    ends = [0, *itertools.accumulate(part.shape[dim] for part in call.result)]
    return tuple(
        operations.cut(call.graph, stream, dim, slice(*ends)) for ends in itertools.pairwise(ends)
    )


def narrow(call: Call) -> Stream:
    """`narrow(dim, start, length)`."""
    start = int(call["start"])
    part = slice(start, start + call["length"])
    return operations.cut(call.graph, call.stream("self"), call["dim"], part)


def select_places(call: Call) -> Stream | States:
    """`index_select(dim, index)` of features."""
    if (same := all_of(call, call["dim"], call["index"])) is not None:
        return same
    stream, places = call.stream("self"), call["index"]
    dim = _feature_dim(stream, call["dim"])
    return rearranged(call.graph, stream, lambda frame: frame.index_select(dim, places))


def index(call: Call) -> Stream | States:
    """`x[..., places]`: features by a list of their places."""
    used = [(dim, places) for dim, places in enumerate(call["indices"]) if places is not None]
    if len(used) == 1 and (same := all_of(call, *used[0])) is not None:
        return same
    stream = call.stream("self")
    if len(used) == 1 and _turns_round(stream, *used[0]):
        return operations.flip(call.graph, stream, [used[0][0]])
    if len(used) != 1 or not isinstance(used[0][1], Tensor) or used[0][1].ndim != 1:
        raise ImporterError("takes values by several lists of places, expected one, of features")
    dim, places = _feature_dim(stream, used[0][0]), used[0][1]
    if places.dtype == torch.bool:
        places = places.nonzero().flatten()
    return rearranged(call.graph, stream, lambda frame: frame.index_select(dim, places))


def _turns_round(stream: Stream, dim: int, places: Tensor) -> bool:
    """Whether places are those of all frames, the last one first."""
    backwards = torch.arange(stream.shape[dim] - 1, -1, -1)
    return stream.is_time(dim) and torch.equal(places, backwards)


def roll(call: Call) -> Stream:
    """`roll(shifts, dims)` of features."""
    stream, shifts = call.stream("self"), call["shifts"]
    dims = [_feature_dim(stream, dim) for dim in call["dims"]]
    return rearranged(call.graph, stream, lambda frame: frame.roll(shifts, dims))


def repeat(call: Call) -> Stream:
    """`repeat(repeats)` of features."""
    stream, repeats = call.stream("self"), list(call["repeats"])
    outer = ((),) * (len(repeats) - len(stream.axes)) + outside(stream)
    return rearranged(call.graph, stream, lambda frame: frame.repeat(repeats), outer)


def repeat_each(call: Call) -> Stream:
    """`repeat_interleave(repeats, dim)` of features."""
    stream = call.stream("self")
    dim, repeats = _feature_dim(stream, call["dim"]), call["repeats"]
    return rearranged(call.graph, stream, lambda frame: frame.repeat_interleave(repeats, dim))


def _feature_dim(stream: Stream, dim: int | None) -> int:
    """A dimension of features, counted from the front."""
    if dim is None or outside(stream)[stream.dim(dim)]:
        raise ImporterError(f"works along dimension {dim} of {stream}, expected features")
    return stream.dim(dim)


def glu(call: Call) -> Stream:
    """`glu(self, dim)`: one half times the sigmoid of the other."""
    stream, dim = call.stream("self"), call["dim"]
    half = stream.shape[stream.dim(dim)] // 2
    one, gate = (
        operations.cut(call.graph, stream, dim, part)
        for part in (slice(0, half), slice(half, 2 * half))
    )
    gate = call.graph.whole(gate)
    opened = gate.becomes(call.graph.add(Activation("sigmoid"), gate.node), gate.axes)
    return multiply(call.given(self=one, other=opened))


def is_features(stream: Stream, dims: Sequence[int]) -> bool:
    """Whether these dimensions hold features alone."""
    axes = [axis for dim in dims for axis in stream.axes[stream.dim(dim)]]
    return bool(axes) and all(axis.kind in ("feature", "window") for axis in axes)


def summed(call: Call, stream: Stream, dims: Sequence[int], keep: bool) -> Stream:
    """The sum over dimensions of features; a few parts are added, many multiplied by a matrix."""
    dims = sorted(stream.dim(dim) for dim in dims)
    if len(dims) == 1 and stream.shape[dims[0]] <= _FEW:
        return _combined(call, stream, dims[0], keep, lambda one, two: _sum(call, one, two))
    outer = outside(stream)
    left = outer if keep else tuple(axes for i, axes in enumerate(outer) if i not in dims)
    return linear_map(call.graph, stream, lambda frame: frame.sum(dims, keepdim=keep), left)


def averaged(call: Call, stream: Stream, dims: Sequence[int], keep: bool) -> Stream:
    """The mean over dimensions of features."""
    count = math.prod(stream.shape[stream.dim(dim)] for dim in dims)
    total = call.graph.whole(summed(call, stream, dims, keep))
    return total.becomes(scaled_by(call, total.node, 1 / count), total.axes)


def largest_of(call: Call, stream: Stream, dims: Sequence[int], keep: bool) -> Stream:
    """The largest of a few features along a dimension, as in a maxout."""
    dim, *others = (stream.dim(dim) for dim in dims)
    if others or stream.shape[dim] > _FEW:
        raise ImporterError(
            f"takes the maximum over dimensions {list(dims)} of {stream}, expected {_FEW} features "
            "at most"
        )
    return _combined(
        call, stream, dim, keep, lambda one, two: largest(call.given(self=one, other=two))
    )


Combination = Callable[[Stream, Stream], Stream]


def _combined(call: Call, stream: Stream, dim: int, keep: bool, both: Combination) -> Stream:
    """The steps of a dimension combined, one after the other."""
    count = stream.shape[dim]
    each = [operations.select(call.graph, stream, dim, index) for index in range(count)]
    found = each[0]
    for other in each[1:]:
        found = both(found, other)
    axes: Axes = (*found.axes[:dim], (), *found.axes[dim:]) if keep else found.axes
    return dataclasses.replace(found, axes=axes)


def _sum(call: Call, one: Stream, two: Stream) -> Stream:
    one, two = call.graph.whole(one), call.graph.whole(two)
    return one.becomes(call.graph.add(Add(), one.node, two.node), one.axes)


def norm(call: Call) -> Stream:
    """The root of the sum of squares over features: `linalg_vector_norm`, `norm`."""
    stream = call.whole("self")
    order = next((call[k] for k in ("ord", "p") if call.arguments.get(k) is not None), 2)
    dims = call["dim"]
    dims = [dims] if isinstance(dims, int) else list(dims or ())
    if order not in (2, "fro") or not is_features(stream, dims):
        raise ImporterError(
            f"takes a norm of order {order} over dimensions {dims} of {stream}, "
            "expected order 2 over features"
        )
    squares = stream.becomes(call.graph.add(Multiply(), stream.node, stream.node), stream.axes)
    total = call.graph.whole(summed(call, squares, dims, call["keepdim"]))
    return total.becomes(call.graph.add(Activation("sqrt"), total.node), total.axes)


def variance(call: Call) -> Stream:
    """`var(dim, correction, keepdim)` over features."""
    stream, dims = call.whole("self"), list(call["dim"] or ())
    if not is_features(stream, dims):
        raise ImporterError(
            f"takes the variance over dimensions {dims} of {stream}, expected features"
        )
    count = math.prod(stream.shape[stream.dim(dim)] for dim in dims)
    center = averaged(call, stream, dims, keep=True)
    centered = subtract(call.given(self=stream, other=center))
    squares = centered.becomes(
        call.graph.add(Multiply(), centered.node, centered.node), centered.axes
    )
    total = call.graph.whole(summed(call, squares, dims, call["keepdim"]))
    unbiased = call.arguments.get("unbiased")
    correction = call.arguments.get("correction", 1 if unbiased is None else int(unbiased))
    divisor = count - (1 if correction is None else correction)
    return total.becomes(scaled_by(call, total.node, 1 / divisor), total.axes)


def matmul(call: Call) -> Stream:
    """A product of tensors of which one is a constant: a linear function of each frame."""
    one, two = [key for key in call.arguments if key != "out"][:2]
    if isinstance(call[one], Stream) and isinstance(call[two], Stream):
        raise ImporterError(
            "multiplies matrices that both depend on the input, which only an attention does"
        )
    name, other, is_left = (one, two, True) if isinstance(call[one], Stream) else (two, one, False)
    stream, weight = call.stream(name), call.tensor(other)

    def function(frame: Tensor) -> Tensor:
        return frame @ weight if is_left else weight @ frame

    return linear_map(call.graph, stream, function, _after_matmul(call, stream, is_left))


def _after_matmul(call: Call, stream: Stream, is_left: bool) -> Axes:
    """The batch and time axes of a product's dimensions, those of the matrices being the last."""
    outer = outside(stream)
    summed_dim = -1 if is_left or len(outer) == 1 else -2
    if outer[summed_dim]:
        raise ImporterError(f"sums over dimension {summed_dim} of {stream}, expected features")
    kept = [axes for i, axes in enumerate(outer) if i != summed_dim % len(outer)]
    missing = len(call.result.shape) - len(kept)
    if missing > 0:  # what the constant adds: columns of its own behind, or rows before them
        kept.insert(len(kept) if is_left else max(len(kept) - 1, 0), ())
        kept = [()] * (missing - 1) + kept
    return tuple(kept)


def einsum(call: Call) -> Stream:
    """`einsum(equation, operands)`: of a signal and constants, or value by value of two signals."""
    equation, operands = call["equation"].replace(" ", ""), call["tensors"]
    terms, _, output = equation.partition("->")
    names = terms.split(",")
    if "." in equation or not _ or len(names) != len(operands):
        raise ImporterError(f"computes einsum {equation!r}, expected named dimensions and a result")
    streams = [
        (n, each) for n, each in zip(names, operands, strict=True) if isinstance(each, Stream)
    ]
    if len(streams) == 1:
        return _linear_einsum(call, equation, operands, streams[0], output)
    if len(streams) == 2 == len(operands):
        return _product_einsum(call, streams, output)
    raise ImporterError(f"computes einsum {equation!r} of {len(streams)} signals, expected one")


def _linear_einsum(
    call: Call, equation: str, operands: Sequence[Any], signal: tuple[str, Stream], output: str
) -> Stream:
    name, stream = signal
    outer = dict(zip(name, outside(stream), strict=True))
    if any(axes and label not in output for label, axes in outer.items()):
        raise ImporterError(f"sums over frames in einsum {equation!r}, expected features")

    def function(frame: Tensor) -> Tensor:
        given = (frame if each is stream else each for each in operands)
        return torch.einsum(equation, *given)

    left = tuple(outer.get(label, ()) for label in output)
    return linear_map(call.graph, stream, function, left)


def _product_einsum(call: Call, streams: Sequence[tuple[str, Stream]], output: str) -> Stream:
    """Two signals multiplied value by value, then summed over what the result has not."""
    labels = sorted(set("".join(name for name, _ in streams)), key=_in(output))
    aligned = [_aligned(each, name, labels) for name, each in streams]
    frames = [dict(zip(name, outside(each), strict=True)) for name, each in streams]
    if any(frames[0].get(label, ()) != frames[1].get(label, ()) for label in labels):
        raise ImporterError(
            "multiplies different frames of two signals, as an attention does, which needs the "
            "whole utterance"
        )
    product = multiply(call.given(self=aligned[0], other=aligned[1]))
    for dim in reversed(range(len(output), len(labels))):
        product = _without(call, product, dim)
    return product


def _without(call: Call, stream: Stream, dim: int) -> Stream:
    """The sum over a dimension: over time, or over features."""
    if stream.is_time(dim):
        return reduced(call.graph, stream, "sum", (dim,), False)
    if not stream.axes[dim]:
        return operations.select(call.graph, stream, dim, 0)
    return summed(call, stream, [dim], False)


def _in(output: str) -> Callable[[str], tuple[int, str]]:
    return lambda label: (output.find(label) % (len(output) + 1), label)


def _aligned(stream: Stream, name: str, labels: Sequence[str]) -> Stream:
    """A stream with its dimensions in the order of all labels, of size 1 where it has none."""
    axes = dict(zip(name, stream.axes, strict=True))
    return dataclasses.replace(stream, axes=tuple(axes.get(label, ()) for label in labels))


def tensordot(call: Call) -> Stream:
    """`tensordot(self, other, dims_self, dims_other)` of a signal and a constant."""
    stream, weight = call.stream("self"), call.tensor("other")
    dims = [_feature_dim(stream, dim) for dim in call["dims_self"]], call["dims_other"]
    left = [axes for i, axes in enumerate(outside(stream)) if i not in dims[0]]
    left += [()] * (weight.ndim - len(dims[1]))
    return linear_map(
        call.graph, stream, lambda frame: torch.tensordot(frame, weight, dims), tuple(left)
    )


FEATURE_OPERATORS: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), parts),
    "narrow": narrow,
    "index_select": select_places,
    "index": index,
    "roll": roll,
    "repeat": repeat,
    "repeat_interleave": repeat_each,
    "glu": glu,
    **dict.fromkeys(("linalg_vector_norm", "linalg_norm", "norm"), norm),
    "einsum": einsum,
    "tensordot": tensordot,
}
"""The handler of every operator on features, by the operator's name without overload."""

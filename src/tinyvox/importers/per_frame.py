"""Operators that do the same to each frame by itself: values picked, or a matrix times them.

What an operator does is found by running it on one frame: on the places of the values where it
only picks them, on each value alone where it is linear.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph, picked
from tinyvox.importers.signal import Axes, Axis, Stream, in_order
from tinyvox.model import BatchNorm, Dense, Linear, Unflatten

Function = Callable[[Tensor], Tensor]
"""What an operator does to a tensor that has the dimensions of a stream, with a single frame."""


def outside(stream: Stream) -> Axes:
    """For each dimension its batch and time axes. Raises ImporterError where one dimension holds
    these and features."""
    found = []
    for dim in stream.axes:
        outer = tuple(axis for axis in dim if axis.kind in ("batch", "time"))
        if outer and len(outer) < len(dim):
            raise ImporterError(f"works on features, and {stream} has them merged with others")
        found.append(outer)
    return tuple(found)


def rearranged(
    graph: LayerGraph, stream: Stream, function: Function, outer: Axes | None = None
) -> Stream:
    """The stream of an operator that picks values of each frame: in another order, some, or some
    several times.

    `outer` has the batch and time axes of the result's dimensions, those of the stream by default.
    """
    outer = outside(stream) if outer is None else outer
    stream = graph.banded(stream)
    node = stream.window or graph.flatten(stream.node)
    size = graph.signals[node].size
    found = function(_frames(stream, torch.arange(size)[None])[0])
    return _placed(graph, stream, picked(graph, node, found.flatten().tolist()), found, outer)


def linear_map(
    graph: LayerGraph, stream: Stream, function: Function, outer: Axes | None = None
) -> Stream:
    """As `rearranged`, for an operator that is a linear function of each frame."""
    outer = outside(stream) if outer is None else outer
    stream = graph.banded(stream)
    node = stream.window or graph.flatten(stream.node)
    alone = _frames(stream, torch.eye(graph.signals[node].size))
    outputs = torch.stack([function(frame) for frame in alone])
    node = _multiplied(graph, node, outputs.flatten(1).T.contiguous())
    return _placed(graph, stream, node, outputs[0], outer)


def _multiplied(graph: LayerGraph, node: str, weight: Tensor) -> str:
    """The node that gives a matrix [out, in] times the frames of a flat node."""
    places = weight.argmax(1)
    if weight.equal(torch.eye(weight.shape[1])[places]):
        return picked(graph, node, places.tolist())
    if weight.shape[0] == weight.shape[1] and weight.equal(weight.diag().diag()):
        return graph.add(scaling(weight.diag().clone()), node)
    return graph.add(Linear(Dense(weight)), node)


def scaling(weight: Tensor, bias: Tensor | None = None) -> BatchNorm:
    """The layer that multiplies each channel by a factor, then adds an offset."""
    zeros = torch.zeros_like(weight)
    return BatchNorm(zeros, torch.ones_like(weight), weight, zeros if bias is None else bias, 0.0)


def in_order_of_dims(graph: LayerGraph, stream: Stream) -> Stream:
    """The stream of a node whose frames have the features in the order of the tensor."""
    return rearranged(graph, stream, lambda frame: frame)


def _frames(stream: Stream, values: Tensor) -> Tensor:
    """Values [n, features], in the node's order, as n tensors of the stream's layout, each with a
    single frame."""
    axes = [[a for a in dim if a.kind in ("window", "feature")] for dim in stream.axes]
    flat = [axis for dim in axes for axis in dim]
    ordered = in_order(flat)
    split = values.view(len(values), *(axis.size for axis in ordered))
    moved = split.permute(0, *(1 + ordered.index(axis) for axis in flat))
    return moved.reshape(len(values), *(math.prod(a.size for a in dim) for dim in axes))


def _placed(graph: LayerGraph, stream: Stream, node: str, frame: Tensor, outer: Axes) -> Stream:
    """The stream of a node that gives frames of this layout, their values in its order.

    Frames of zeros around it, or some that were cut off, are so still: what is done to each frame
    is linear.
    """
    dims = [i for i, size in enumerate(frame.shape) if size > 1]
    if len(frame.shape) != len(outer) or any(outer[i] for i in dims):
        raise ImporterError(f"changes frames or batch of {stream}, expected features alone")
    if len(dims) > 2:
        raise ImporterError(
            f"has features in {len(dims)} dimensions, {list(frame.shape)}, expected channels and "
            "bands at most"
        )
    axes = list(outer)
    for index, dim in enumerate(dims):
        axes[dim] = (Axis("feature", frame.shape[dim], index),)
    if len(dims) == 2:
        node = _image(graph, node, frame.shape[dims[0]])
    return dataclasses.replace(stream.becomes(node, tuple(axes)), span=stream.span)


def _image(graph: LayerGraph, node: str, channels: int) -> str:
    """The node of shape (channels, bands) for a flat one: the one that was flattened, if any."""
    before = graph.before_flatten(node)
    if before is not None and graph.signals[before].shape[0] == channels:
        return before
    return graph.add(Unflatten(channels), node)

"""The two directions of a recurrent layer, where a tensor has them in a dimension of their own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Add, Node, Recurrent, Unflatten


def sum_directions(graph: LayerGraph, stream: Stream, dims: Sequence[int], keep: bool) -> Stream:
    """The sum over a dimension that holds the two directions of a recurrent layer.

    `keep` leaves that dimension there, with size 1. Source: Amodei et al., "Deep Speech 2", 2016,
    section 3.1.
    """
    dims = [stream.dim(dim) for dim in dims]
    both = _directions(graph, stream, dims)
    if both is None:
        raise ImporterError(f"sums over dimensions {list(dims)} of {stream}, expected features")
    layer = both.layer
    assert isinstance(layer, Recurrent)
    forward = graph.add(dataclasses.replace(layer, backward=None), *both.inputs)
    backward = graph.add(dataclasses.replace(layer, forward=None), *both.inputs)
    node = graph.add(Add(), forward, backward)
    size = math.prod(graph.signals[node].shape)
    kept = stream.with_axis(dims[0])
    axes = kept if keep else (*kept[: dims[0]], *kept[dims[0] + 1 :])
    return stream.becomes(node, tuple(tuple(_renamed(a, size) for a in dim) for dim in axes))


def has_directions(graph: LayerGraph, stream: Stream, dims: Sequence[int]) -> bool:
    """Whether these dimensions are the two directions of a recurrent layer."""
    return _directions(graph, stream, [stream.dim(dim) for dim in dims]) is not None


def _directions(graph: LayerGraph, stream: Stream, dims: Sequence[int]) -> Node | None:
    """The recurrent layer whose two directions these dimensions are, or None."""
    source = graph.nodes.get(stream.node)
    if source is None or [stream.axes[dim] for dim in dims] != [(Axis("feature", 2, 0),)]:
        return None
    both = graph.nodes.get(source.inputs[0])
    if both is None or not isinstance(source.layer, Unflatten):
        return None
    is_both = isinstance(both.layer, Recurrent) and len(both.layer.cells()) == 2
    return both if is_both else None


def _renamed(axis: Axis, size: int) -> Axis:
    return Axis("feature", size) if axis.kind == "feature" else axis

"""Signals of different layouts brought to one, as torch broadcasts tensors: features are repeated,
and the one frame of an utterance stands beside each frame of another signal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.per_frame import outside, rearranged
from tinyvox.importers.signal import Axes, Stream
from tinyvox.model import Spread, Unflatten


def alike(graph: LayerGraph, one: Stream, two: Stream) -> tuple[Stream, Stream]:
    """Both signals in the layout that their combination has.

    Raises ImporterError where a dimension of both holds different axes.
    """
    if _has_time(one) and _has_time(two) and one.backwards != two.backwards:
        raise ImporterError(f"combines {one} with the reversed frames of {two}")
    if one.axes == two.axes:
        return one, two
    rank = max(len(one.axes), len(two.axes))
    one, two = _lifted(one, rank), _lifted(two, rank)
    try:
        shape = torch.broadcast_shapes(one.shape, two.shape)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ImporterError(f"combines {one} and {two}, expected equal layouts") from error
    outer = tuple(max(axes, key=len) for axes in zip(outside(one), outside(two), strict=True))
    first, second = (
        repeated(graph, each, shape, outer, other) for each, other in ((one, two), (two, one))
    )
    return first, second


def repeated(
    graph: LayerGraph,
    stream: Stream,
    shape: Sequence[int],
    outer: Axes | None = None,
    other: Stream | None = None,
) -> Stream:
    """A stream with its features repeated to a shape.

    `outer` are the batch and time axes that the result has in each dimension, those of the stream
    by default. The one frame of an utterance is repeated for each frame of `other`.
    """
    stream = _lifted(stream, len(shape))
    own = outside(stream)
    outer = own if outer is None else outer
    if any(mine and mine != axes for mine, axes in zip(own, outer, strict=True)):
        raise ImporterError(f"combines {stream} with {list(shape)}, expected equal layouts")
    if any(axes and not mine and size > 1 for axes, mine, size in _dims(outer, own, stream)):
        raise ImporterError(f"combines features of {stream} with frames, expected equal layouts")
    sizes = [1 if axes else size for axes, size in zip(outer, shape, strict=True)]
    found = rearranged(graph, stream, lambda frame: frame.expand(sizes), own)
    axes = tuple(theirs or mine for theirs, mine in zip(outer, found.axes, strict=True))
    wide = dataclasses.replace(found, axes=axes)
    if _has_time(stream) or not _has_time(wide):
        return wide
    if other is None or graph.signals[found.node].stride:
        raise ImporterError(f"repeats {stream} over time, expected one frame an utterance")
    return dataclasses.replace(
        wide, node=_beside(graph, found.node, other.node), backwards=other.backwards
    )


def _dims(outer: Axes, own: Axes, stream: Stream) -> Iterator[tuple[Any, Any, int]]:
    return zip(outer, own, stream.shape, strict=True)


def _has_time(stream: Stream) -> bool:
    return any(axis.kind == "time" for dim in stream.axes for axis in dim)


def _lifted(stream: Stream, rank: int) -> Stream:
    """The stream with so many dimensions, new ones of size 1 before the others."""
    return dataclasses.replace(stream, axes=((),) * (rank - len(stream.axes)) + stream.axes)


def _beside(graph: LayerGraph, one: str, other: str) -> str:
    """The node that gives the one frame of a node for each frame of another."""
    shape = graph.signals[one].shape
    node = graph.add(Spread(), graph.flatten(one), graph.flatten(other))
    return graph.add(Unflatten(shape[0]), node) if len(shape) > 1 else node

"""Signals of different layouts brought to one, as torch broadcasts tensors: features are repeated,
and the one frame of an utterance stands beside each frame of another signal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axes, Axis, Stream, in_order
from tinyvox.model import Spread, Take, Unflatten


def alike(graph: LayerGraph, one: Stream, two: Stream) -> tuple[Stream, Stream]:
    """Both signals in the layout that their combination has.

    Raises ImporterError where a dimension of both holds different axes.
    """
    if one.axes == two.axes and one.backwards == two.backwards:
        return one, two
    if one.backwards != two.backwards:
        raise ImporterError(f"combines {one} with the reversed frames of {two}")
    rank = max(len(one.axes), len(two.axes))
    pairs = list(zip(_lifted(one, rank).axes, _lifted(two, rank).axes, strict=True))
    if any(a and b and not _fits(a, b) for a, b in pairs):
        raise ImporterError(f"combines {one} and {two}, expected equal layouts")
    target = _numbered([a or b for a, b in pairs])
    first, second = (
        spread(graph, _lifted(each, rank), target, other)
        for each, other in ((one, two), (two, one))
    )
    return first, second


def _lifted(stream: Stream, rank: int) -> Stream:
    """The stream with so many dimensions, new ones of size 1 before the others."""
    return dataclasses.replace(stream, axes=((),) * (rank - len(stream.axes)) + stream.axes)


def _fits(one: Sequence[Axis], two: Sequence[Axis]) -> bool:
    return [(a.kind, a.size) for a in one] == [(b.kind, b.size) for b in two]


def _numbered(axes: Sequence[tuple[Axis, ...]]) -> Axes:
    """The axes with features counted as channels, then bands. Raises ImporterError for more."""
    count, found = 0, []
    for dim in axes:
        found.append(tuple(a if a.kind != "feature" else _feature(a, count) for a in dim))
        count += sum(a.kind == "feature" for a in dim)
    if count > 2:
        raise ImporterError(f"gives {count} axes of features, expected channels and bands at most")
    return tuple(found)


def _feature(axis: Axis, index: int) -> Axis:
    return Axis("feature", axis.size, index)


def spread(graph: LayerGraph, stream: Stream, axes: Axes, other: Stream) -> Stream:
    """A stream repeated to these axes, which `other` has where it has none."""
    node = graph.flatten(stream.node)
    node = placed(graph, node, _places(stream, axes))
    has_time = any(stream.is_time(i) for i in range(len(axes)))
    if not has_time and any(a.kind == "time" for dim in axes for a in dim):
        if graph.signals[node].stride:
            raise ImporterError(f"repeats {stream} over time, expected one frame an utterance")
        node = graph.add(Spread(), node, graph.flatten(other.node))
    features = [a.size for dim in axes for a in dim if a.kind == "feature"]
    if len(features) > 1:
        node = graph.add(Unflatten(features[0]), node)
    return stream.becomes(node, axes)


def placed(graph: LayerGraph, node: str, places: Sequence[int]) -> str:
    """The node with the values of a flat node's frames at these places."""
    if list(places) == list(range(graph.signals[node].size)):
        return node
    return graph.add(Take(tuple(places)), node)


def _places(stream: Stream, axes: Axes) -> list[int]:
    """Where the values of a frame with these axes stand in the frames of the stream's node."""
    found = stream.features()
    ordered = in_order(found)
    grid = torch.arange(math.prod(a.size for a in found)).view([a.size for a in ordered] or [1])
    if found:
        grid = grid.permute([ordered.index(axis) for axis in found])
    frame = grid.reshape([math.prod(a.size for a in dim if a in found) for dim in stream.axes])
    sizes = [math.prod(a.size for a in dim if a.kind == "feature") for dim in axes]
    places: list[int] = frame.expand(sizes).flatten().tolist()
    return places

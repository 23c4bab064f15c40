"""One frame of a whole utterance: the last one, the mean over time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Stream
from tinyvox.model import Reduce

ONE_BY_ONE = (
    "takes its frames one by one, in a loop that is no recurrent layer known here; run nn.LSTM, "
    "nn.GRU or nn.RNN over all frames, or write one of the cells that the docs list"
)
_MOST_FRAMES = 16
"""Frames that are taken each by itself; more are a loop."""


def reduced(
    graph: LayerGraph, stream: Stream, kind: str, dims: Sequence[int], keep: bool
) -> Stream:
    """One frame, by a kind of REDUCTIONS over `dims`, which must be time alone.

    `keep` leaves the dimension there, with size 1.
    """
    if len(dims) != 1 or not stream.is_time(dims[0]):
        raise ImporterError(
            f"takes the {kind} over dimensions {list(dims)} of {stream}, expected time alone"
        )
    stream, dim = graph.whole(stream), stream.dim(dims[0])
    if stream.backwards:
        kind = {"last": "first", "first": "last"}.get(kind, kind)
    axes = (*stream.axes[:dim], *([()] if keep else []), *stream.axes[dim + 1 :])
    return dataclasses.replace(
        stream, node=graph.add(Reduce(kind), stream.node), axes=axes, backwards=False
    )


def frame(graph: LayerGraph, stream: Stream, dim: int, index: int, keep: bool = False) -> Stream:
    """One frame of all: the first, the last, the middle one, or one counted from either end."""
    taken = [n.layer.kind for n in graph.nodes.values() if isinstance(n.layer, Reduce)]
    if sum(kind in ("first", "middle", "last") for kind in taken) >= _MOST_FRAMES:
        raise ImporterError(ONE_BY_ONE)
    stream = graph.whole(stream)
    count = stream.shape[stream.dim(dim)]
    place = index % count
    kind, node = "middle", stream.node
    if place == 0 or place == count - 1:
        kind = "first" if place == 0 else "last"
    elif stream.backwards:
        raise ImporterError(f"takes frame {index} of {count} that are reversed")
    elif place < count // 2:
        kind, node = "first", graph.every(node, place, place + 1, 1)
    elif place > count // 2:
        kind, node = "last", graph.every(node, 0, count - place, 1)
    return reduced(graph, dataclasses.replace(stream, node=node), kind, (dim,), keep)

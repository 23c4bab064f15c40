"""One frame of a whole utterance: the last one, the mean over time, the final state of a cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Concat, Recurrent, Reduce


@dataclass(frozen=True, eq=False)
class States:
    """The final hidden states of a recurrent layer, a tensor [cells, batch, size].

    `nodes` give the hidden states of each cell over time, each alone; `batch` is what the batch
    dimension is made of.
    """

    nodes: tuple[str, ...]
    batch: tuple[Axis, ...]

    def select(self, graph: LayerGraph, index: int) -> Stream:
        """The final state of one cell, [batch, size]; negative indices count from the last one.

        A cell that runs backwards in time ends at the first frame.
        """
        node = self.nodes[index]
        layer, size = graph.layer(node), graph.signals[node].size
        assert isinstance(layer, Recurrent)
        kind = "last" if layer.backward is None else "first"
        feature = (Axis("feature", size),) if size > 1 else ()
        return Stream(graph.add(Reduce(kind), node), (self.batch, feature))

    def cut(self, part: slice) -> States:
        """The states of some of the cells."""
        return States(self.nodes[part], self.batch)

    def joined(self, graph: LayerGraph) -> Stream:
        """The final states of all cells after one another, [batch, cells * size]."""
        streams = [self.select(graph, index) for index in range(len(self.nodes))]
        if len(streams) == 1:
            return streams[0]
        size = sum(graph.signals[stream.node].size for stream in streams)
        node = graph.add(Concat(), *(stream.node for stream in streams))
        return Stream(node, (self.batch, (Axis("feature", size),)))


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
    """The first or the last frame of all."""
    count = stream.shape[stream.dim(dim)]
    if index % count not in (0, count - 1):
        raise ImporterError(f"takes frame {index} of {count}, expected the first or the last one")
    kind = "first" if index % count == 0 else "last"
    return reduced(graph, stream, kind, (dim,), keep)

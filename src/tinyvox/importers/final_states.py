"""The final hidden states of recurrent layers, a tensor of a few cells, as people take it apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.signal import Axis, Stream
from tinyvox.model import Add, Concat, Recurrent, Reduce, Unflatten

_AS_WRITTEN = (
    "the final states of a recurrent layer can be taken one by one, joined or summed: write h[-1], "
    "h.squeeze(0), or torch.cat((h[-2], h[-1]), 1) for two directions"
)


@dataclass(frozen=True, eq=False)
class States:
    """The final hidden states of the cells of a recurrent layer, at first [cells, batch, size].

    `nodes` give the hidden states of each cell over time, each alone; `batch` is what the batch
    dimension is made of. `dims` says what the dimensions of the tensor are: "c" for cells, "b" for
    the batch, "s" for the size of a state and "1" for size 1; `shape` is that of the cells, one
    number for each "c", and `nodes` stand in its order.
    """

    nodes: tuple[str, ...]
    batch: tuple[Axis, ...]
    shape: tuple[int, ...] = ()
    dims: str = ""

    def __post_init__(self) -> None:
        if not self.dims:
            count = len(self.nodes)
            shape = (count,) if count > 1 else ()
            object.__setattr__(
                self, "dims", ("c" if shape else "1") + ("b" if self.batch else "1") + "s"
            )
            object.__setattr__(self, "shape", shape)

    def final(self, graph: LayerGraph) -> Stream | States:
        """The state itself, where only one cell is left."""
        return self if "c" in self.dims else self.stream(graph)

    def stream(self, graph: LayerGraph) -> Stream:
        """The state of the only cell, or those of several in a dimension of their own."""
        nodes = [_ended(graph, node) for node in self.nodes]
        size = graph.signals[nodes[0]].size
        if "c" not in self.dims:
            return Stream(nodes[0], self._axes(size))
        if self.dims.count("c") > 1 or {graph.signals[node].size for node in nodes} != {size}:
            raise ImporterError(_AS_WRITTEN)
        node = graph.add(Unflatten(len(nodes)), graph.add(Concat(), *nodes))
        of = {
            "c": (Axis("feature", len(nodes)),),
            "s": (Axis("feature", size, 1),) if size > 1 else (),
            "b": self.batch,
        }
        return Stream(node, tuple(of.get(kind, ()) for kind in self.dims))

    def select(self, graph: LayerGraph, dim: int, index: int) -> Stream | States:
        """One step of a dimension, which is dropped: one cell, or a dimension of size 1."""
        place, dims = self._place(dim), self._without(dim)
        cells = self._cells if place is None else np.take(self._cells, index, axis=place)
        return self._with(cells, dims).final(graph)

    def cut(self, graph: LayerGraph, dim: int, part: slice) -> Stream | States:
        """Some of the cells; all of another dimension."""
        if self.dims[dim] != "c":
            if part.indices(self._steps(graph, dim)) != (0, self._steps(graph, dim), 1):
                raise ImporterError(_AS_WRITTEN)
            return self
        place = self.dims[: dim % len(self.dims)].count("c")
        cells = self._cells[(slice(None),) * place + (part,)]
        if cells.shape[place] > 1:
            return self._with(cells, self.dims)
        dims = self._replaced(dim, "1")
        return self._with(cells.squeeze(place), dims).final(graph)

    def permute(self, order: Sequence[int]) -> States:
        """The dimensions in another order."""
        order = [index % len(self.dims) for index in order]
        dims = "".join(self.dims[index] for index in order)
        cells = [self.dims[:index].count("c") for index in order if self.dims[index] == "c"]
        return self._with(self._cells.transpose(cells), dims)

    def reshape(self, graph: LayerGraph, shape: Sequence[int]) -> Stream | States:
        """Another shape: cells split or merged, dimensions of size 1 added or dropped, or the
        states of all cells after one another."""
        left = self._sizes(graph)
        dims = ""
        cells: list[int] = []
        for size in shape:
            taken = _dealt(left, size)
            kinds = "".join(kind for kind, _ in taken)
            if kinds and not kinds.strip("c"):
                dims, cells = dims + "c", [*cells, size]
            elif len(kinds) < 2:
                dims += kinds or "1"
            elif kinds.strip("c") == "s" and kinds[-1] == "s":
                dims += "j"
            else:
                raise ImporterError(f"reshapes final states to {list(shape)}; {_AS_WRITTEN}")
        if "j" in dims:
            return self._joined(graph, dims)
        return self._with(self._cells.reshape(cells), dims).final(graph)

    def combined(self, graph: LayerGraph, dim: int, mean: bool, keep: bool) -> tuple[Stream, float]:
        """The sum over cells, and the factor that makes it what was asked for."""
        place = self._place(dim)
        if place is None or len(self.shape) != 1:
            raise ImporterError(f"adds up dimension {dim} of final states; {_AS_WRITTEN}")
        node = graph.add(Add(), *(_ended(graph, each) for each in self.nodes))
        dims = self._replaced(dim, "1") if keep else self._without(dim)
        stream = Stream(node, self._axes(graph.signals[node].size, dims))
        return stream, 1 / len(self.nodes) if mean else 1.0

    @property
    def _cells(self) -> np.ndarray:
        return np.array(self.nodes, dtype=object).reshape(self.shape)

    def _with(self, cells: np.ndarray, dims: str) -> States:
        return States(tuple(np.ravel(cells).tolist()), self.batch, np.shape(cells), dims)

    def _place(self, dim: int) -> int | None:
        """Which axis of the cells a dimension is; None where it has size 1."""
        kind = self.dims[dim]
        if kind in "bs":
            raise ImporterError(f"takes a part of dimension {dim} of final states; {_AS_WRITTEN}")
        dim %= len(self.dims)
        return self.dims[:dim].count("c") if kind == "c" else None

    def _without(self, dim: int) -> str:
        dim %= len(self.dims)
        return self.dims[:dim] + self.dims[dim + 1 :]

    def _replaced(self, dim: int, kind: str) -> str:
        dim %= len(self.dims)
        return self.dims[:dim] + kind + self.dims[dim + 1 :]

    def _steps(self, graph: LayerGraph, dim: int) -> int:
        """The size of a dimension that is none of cells."""
        size = graph.signals[self.nodes[0]].size
        return {"1": 1, "s": size, "b": math.prod(a.size for a in self.batch)}[self.dims[dim]]

    def _axes(self, size: int, dims: str | None = None) -> tuple[tuple[Axis, ...], ...]:
        feature = (Axis("feature", size),) if size > 1 else ()
        of = {"b": self.batch, "s": feature, "j": feature}
        return tuple(of.get(kind, ()) for kind in (self.dims if dims is None else dims))

    def _sizes(self, graph: LayerGraph) -> list[tuple[str, int]]:
        """The kinds and sizes of the dimensions that have more than one step."""
        cells = iter(self.shape)
        size, batch = graph.signals[self.nodes[0]].size, math.prod(a.size for a in self.batch)
        return [
            (kind, next(cells) if kind == "c" else {"b": batch, "s": size}[kind])
            for kind in self.dims
            if kind != "1"
        ]

    def _joined(self, graph: LayerGraph, dims: str) -> Stream:
        if "c" in dims:
            raise ImporterError(_AS_WRITTEN)
        streams = [_ended(graph, node) for node in self.nodes]
        node = graph.add(Concat(), *streams)
        return Stream(node, self._axes(graph.signals[node].size, dims))


def _ended(graph: LayerGraph, node: str) -> str:
    """The node of the final state of a cell; one that runs backwards ends at the first frame."""
    if graph.signals[node].stride == 0:
        return node
    layer = graph.layer(node)
    assert isinstance(layer, Recurrent)
    return graph.add(Reduce("last" if layer.backward is None else "first"), node)


def _dealt(left: list[tuple[str, int]], size: int) -> list[tuple[str, int]]:
    """The next dimensions of size `size` in all, taken from what is left; cells may be split."""
    taken = []
    while size > 1:
        kind, steps = left.pop(0)
        if kind == "c" and steps > size and steps % size == 0:
            left.insert(0, ("c", steps // size))
            steps = size
        if size % steps:
            raise ImporterError(_AS_WRITTEN)
        taken.append((kind, steps))
        size //= steps
    return taken


def gathered(
    graph: LayerGraph, parts: Sequence[Any], dim: int, *, new: bool = False
) -> States | None:
    """States joined along cells, or single frames of utterances joined along a dimension of size 1
    or, where it is `new`, stacked. None where the parts are something else."""
    states = [_as_states(graph, part) for part in parts]
    found = [each for each in states if each is not None]
    if len(found) < max(2, len(parts)):
        return None
    dim %= len(found[0].dims) + new
    layouts = {each.dims if new else each.dims[:dim] + each.dims[dim + 1 :] for each in found}
    if len(layouts) > 1 or "c" in (layout := layouts.pop()):
        return None
    if not new and any(each.dims[dim] not in "c1" for each in found):
        return None
    nodes = tuple(node for each in found for node in each.nodes)
    dims = layout[:dim] + "c" + layout[dim:]
    return States(nodes, found[0].batch, (len(nodes),), dims)


def _as_states(graph: LayerGraph, part: Any) -> States | None:
    """States, or the one frame of an utterance as such."""
    if isinstance(part, States):
        return part
    if not isinstance(part, Stream) or part.window or graph.signals[part.node].stride:
        return None
    if any(len(dim) > 1 for dim in part.axes) or len(part.features()) > 1:
        return None
    kinds = {"batch": "b", "feature": "s"}
    dims = "".join(kinds[dim[0].kind] if dim else "1" for dim in part.axes)
    batch = next((dim for dim in part.axes if dim and dim[0].kind == "batch"), ())
    return States((part.node,), batch, (), dims)

"""The layers that an importer has found so far, and the model that they make.

See `signal` for how an importer uses it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tinyvox.errors import ImporterError
from tinyvox.importers.signal import Axis, Stream, in_order
from tinyvox.model import (
    INPUT,
    ZERO,
    Activation,
    Concat,
    ContextWindow,
    Conv1d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    FrameStacking,
    Layer,
    Linear,
    Model,
    Node,
    Pool,
    Recurrent,
    Signal,
    Slice,
    Subsample,
    Take,
    Unflatten,
)

ColumnOrder = tuple[int, ...] | None
"""The order of a weight's columns: `weight[:, order]` takes the features as the node gives them.

None where the tensor and the node have the same order.
"""


class Place(NamedTuple):
    """Where a layer stands in the source, from which it gets its name."""

    path: str = ""
    """Such as `encoder.lstm`."""
    is_layer: bool = False
    """Whether this is one layer of the source, and not a module with parts."""


class LayerGraph:
    """The nodes found so far, under provisional names. `model` gives the final ones.

    Errors name no place in the source; the importer adds that.
    """

    def __init__(self, input_size: int) -> None:
        self.nodes: dict[str, Node] = {}
        self.signals: dict[str, Signal] = {INPUT: Signal((input_size,))}
        self.place = Place()
        """Where the layers that are added next stand."""
        self.notes: list[str] = []
        """What there is to say about the model."""
        self._places: dict[str, Place] = {}
        self._names_of: dict[tuple[object, tuple[str, ...]], str] = {}

    def add(self, layer: Layer, *inputs: str) -> str:
        """Add a node for a layer, and return its name.

        A layer is added once for the same inputs. A layer whose matrices are those of an earlier
        one, the very same memory, is that layer once more. Raises ModelError where layer and inputs
        do not fit.
        """
        layer = self._once(layer)
        bare = not layer.matrices() and not layer.vectors()
        key = (type(layer), *dataclasses.astuple(layer)) if bare else id(layer)
        if (key, inputs) not in self._names_of:
            name = f"#{len(self.nodes)}"
            self.signals[name] = layer.infer(*(self.signals[i] for i in inputs))
            self.nodes[name] = Node(name, layer, inputs)
            self._places[name] = self.place
            self._names_of[key, inputs] = name
        return self._names_of[key, inputs]

    def replace(self, before: str, layer: Layer) -> str:
        """Add a node for a layer that takes the place of the node `before`: its inputs, its place
        in the source."""
        here, self.place = self.place, self._places[before]
        try:
            return self.add(layer, *self.nodes[before].inputs)
        finally:
            self.place = here

    def _once(self, layer: Layer) -> Layer:
        """The earlier layer that has the very same matrices, and all else equal, or this one."""
        if not layer.matrices():
            return layer
        known = (node.layer for node in self.nodes.values())
        return next((other for other in known if _same_weights(layer, other)), layer)

    def place_of(self, name: str) -> Place:
        """Where the layer of a node stands in the source."""
        return self._places[name]

    def layer(self, name: str) -> Layer | None:
        """The layer of a node; None for the model's input."""
        return self.nodes[name].layer if name in self.nodes else None

    def model(self, output: str) -> Model:
        """The model whose output this node is. Nodes that it does not need are left out.

        Nodes are named after their places: `dense1`; `lstm.0` and `lstm.1` for two layers in one
        place; `block.relu` for a layer that has no place of its own.
        """
        found = self._needed(output)
        names = self._names(found)
        tied = {node.name: _tied(node.layer, found) for node in found}
        renamed = (
            Node(names[n.name], tied[n.name], tuple(names[i] for i in n.inputs)) for n in found
        )
        return Model(self.signals[INPUT].size, tuple(renamed))

    def flatten(self, name: str) -> str:
        """A node with the same features in one axis."""
        if len(self.signals[name].shape) == 1:
            return name
        if isinstance(self.layer(name), Unflatten):
            return self.nodes[name].inputs[0]
        return self.add(Flatten(), name)

    def window(self, name: str, *layers: Layer) -> str:
        """The flat node that gives a node's frames in windows; `layers` make the windows."""
        name = self.flatten(name)
        for layer in layers:
            name = self.add(layer, name)
        return name

    def columns(self, stream: Stream) -> tuple[str, ColumnOrder]:
        """The flat node that holds a stream's features, and the order of a weight's columns."""
        found = stream.features()
        node = stream.window or self.flatten(stream.node)
        return node, None if found == in_order(found) else _column_order(found)

    def flat(self, stream: Stream, dim: int) -> tuple[str, ColumnOrder]:
        """As `columns`. Raises ImporterError where `dim` does not hold all features of a frame."""
        if stream.features() and stream.feature_dim() != stream.dim(dim):
            raise ImporterError(f"takes all features of a frame in dimension {dim}, found {stream}")
        return self.columns(stream)

    def finalize(self, stream: Stream) -> Stream:
        """The stream as that of a node alone: its window is made.

        Features that lie in one dimension become one axis, in the order of that dimension. Raises
        ImporterError where a window and features lie in several dimensions.
        """
        dim = stream.feature_dim()
        if not stream.features():
            return dataclasses.replace(stream, node=self.flatten(stream.node))
        if dim is None and not stream.window:
            return stream
        if dim is None:
            raise ImporterError(
                f"needs the windows of {stream} flattened, frame by frame, with all features in "
                "one dimension"
            )
        node, order = self.columns(stream)
        if order is not None:
            node = picked(self, node, _inverse(order))
        axes = stream.with_axis(dim, Axis("feature", stream.shape[dim]))
        return dataclasses.replace(stream, node=node, axes=axes, window=None)

    def whole(self, stream: Stream) -> Stream:
        """The stream finalized. Raises ImporterError also where it was padded."""
        return self.finalize(self.settled(stream))

    def settled(self, stream: Stream) -> Stream:
        """The stream of a node that gives exactly its frames. Raises ImporterError where it was
        padded."""
        first, last = stream.span
        if first == last != 0 and not stream.window and not stream.backwards:
            stream = self._delayed(stream, first)
        return self.banded(self.uncut(stream)).unpadded()

    def banded(self, stream: Stream) -> Stream:
        """The same stream, of a node that gives the bands that were added."""
        before, after = stream.bands
        if (before, after) == (0, 0) or stream.window:
            return stream
        *channels, bands = self.signals[stream.node].shape
        places = (*[ZERO] * before, *range(bands), *[ZERO] * after)
        node = self.add(Take(places, len(channels)), stream.node)
        return dataclasses.replace(stream, node=node, bands=(0, 0))

    def _delayed(self, stream: Stream, first: int) -> Stream:
        """Frames that come later or earlier than those of the node, with zeros for what is not
        there."""
        shape = self.signals[stream.node].shape
        size, reach = math.prod(shape), abs(first)
        context = ContextWindow(reach, 0) if first < 0 else ContextWindow(0, reach)
        start = 0 if first < 0 else reach * size
        node = self.window(stream.node, context, Slice(start, start + size))
        node = self.add(Unflatten(shape[0]), node) if len(shape) > 1 else node
        return dataclasses.replace(stream, node=node, span=(0, 0))

    def uncut(self, stream: Stream) -> Stream:
        """The same stream, of a node that gives no frames that were cut off from both ends.

        A convolution or a pooling makes less of its padding; other frames are left out.
        """
        first, last = stream.span
        if stream.span == (0, 0) or first < 0 or last > 0 or stream.window:
            return stream
        less = _less_padded(self.layer(stream.node), first, -last)
        if less is not None:
            node = self.replace(stream.node, less)
        else:
            node = self.every(stream.node, first, first - last + 1, 1)
        return dataclasses.replace(stream, node=node, span=(0, 0))

    def every(self, name: str, place: int, count: int, stride: int) -> str:
        """The node that gives frame `place` of `count` frames in a row, every `stride` frames."""
        shape = self.signals[name].shape
        if count == 1:
            return self.add(Subsample(stride), name)
        size = math.prod(shape)
        node = self.add(FrameStacking(count, stride), self.flatten(name))
        node = self.add(Slice(place * size, (place + 1) * size), node)
        return self.add(Unflatten(shape[0]), node) if len(shape) > 1 else node

    def image(self, stream: Stream, channel: int, band: int) -> str:
        """The node of shape (channels, bands) for a tensor that has them in these dimensions.

        Raises ImporterError where the dimensions hold something else.
        """
        found = [list(stream.axes[stream.dim(dim)]) for dim in (channel, band)]
        shape = self.signals[stream.node].shape
        if stream.window or any(a.kind != "feature" for dim in found for a in dim):
            raise ImporterError(
                f"takes channels and bands in two dimensions of their own, found {stream}"
            )
        if len(shape) == 1 and (not found[0] or not found[1]):
            return self.add(Unflatten(shape[0] if found[0] else 1), stream.node)
        order = [a.index for dim in found for a in dim]
        if order == [1, 0]:
            channels, bands = shape
            places = [c * bands + b for b in range(bands) for c in range(channels)]
            return self.add(Unflatten(bands), picked(self, self.flatten(stream.node), places))
        if order != [i for i in (0, 1) if shape[i] > 1]:
            raise ImporterError(f"takes channels, then bands, found frames of shape {shape}")
        return stream.node

    def before_flatten(self, name: str) -> str | None:
        """The node whose frames of channels and bands this one gives flat, or None."""
        is_flatten = isinstance(self.layer(name), Flatten)
        return self.nodes[name].inputs[0] if is_flatten else None

    def _needed(self, output: str) -> list[Node]:
        """The nodes that the output depends on, in the order in which they were found."""
        needed = {output}
        for node in reversed(list(self.nodes.values())):
            if node.name in needed:
                needed.update(node.inputs)
        return [node for node in self.nodes.values() if node.name in needed]

    def _names(self, nodes: Sequence[Node]) -> dict[str, str]:
        """The final name of every node, by its provisional one."""
        groups: dict[str, list[Node]] = {}
        for node in nodes:
            groups.setdefault(self._places[node.name].path, []).append(node)
        names = {INPUT: INPUT}
        for node in nodes:
            place = self._places[node.name]
            title = _title(place, node, groups)
            names[node.name] = _unique(title, set(names.values()))
        return names


def picked(graph: LayerGraph, node: str, places: Sequence[int]) -> str:
    """The node that gives the values of a flat node's frames at these places.

    A node that picks or joins values itself is passed over.
    """
    size = graph.signals[node].size
    if list(places) == list(range(size)):
        return node
    before = _behind(graph, node, places)
    if before is not None:
        return picked(graph, *before)
    start, stop = places[0], places[0] + len(places)
    if list(places) == list(range(start, stop)):
        return graph.add(Slice(start, stop), node)
    return graph.add(Take(tuple(places)), node)


def _behind(graph: LayerGraph, name: str, places: Sequence[int]) -> tuple[str, list[int]] | None:
    """The node from which a node has the values at these places, and their places there."""
    node = graph.nodes.get(name)
    if node is None:
        return None
    layer = node.layer
    if isinstance(layer, Slice):
        return node.inputs[0], [layer.start + place for place in places]
    if isinstance(layer, Take) and ZERO not in layer.indices:
        return node.inputs[0], [layer.indices[place] for place in places]
    start = 0
    for source in node.inputs if isinstance(layer, Concat) else ():
        size = graph.signals[source].size
        if start <= min(places) and max(places) < start + size:
            return source, [place - start for place in places]
        start += size
    return None


def _inverse(order: Sequence[int]) -> list[int]:
    """For every feature in the tensor's order, its number in the node's."""
    return sorted(range(len(order)), key=order.__getitem__)


def _less_padded(layer: Layer | None, before: int, after: int) -> Layer | None:
    """The layer without frames of its padding, of which each makes a frame; None where it has no
    such."""
    if not isinstance(layer, Conv1d | Conv2d | Pool):
        return None
    stride = layer.stride if isinstance(layer, Conv1d) else layer.stride[0]
    first, last, *bands = layer.padding
    if stride > 1 or before > first or after > last:
        return None
    padding: Any = (first - before, last - after, *bands)
    return dataclasses.replace(layer, padding=padding)


def _tied(layer: Layer, nodes: Sequence[Node]) -> Layer:
    """The layer; an embedding whose table lies in the same memory as the weight of a linear layer
    has the very same matrix."""
    if not isinstance(layer, Embedding):
        return layer
    linear = [node.layer for node in nodes if isinstance(node.layer, Linear)]
    alike = [other.weight for other in linear if _memory(other) == _memory(layer)]
    return dataclasses.replace(layer, weight=alike[0]) if alike else layer


def _same_weights(one: Layer, other: Layer) -> bool:
    """Whether both are the same layer: their matrices lie in the same memory."""
    if type(one) is not type(other) or one.settings() != other.settings():
        return False
    vectors, others = one.vectors(), other.vectors()
    return (
        _memory(one) == _memory(other)
        and vectors.keys() == others.keys()
        and all(vector.equal(others[name]) for name, vector in vectors.items())
    )


def _memory(layer: Layer) -> list[tuple[object, ...]]:
    """Where the dense matrices of a layer lie in memory, and how."""
    found = {n: m.values for n, m in layer.matrices().items() if isinstance(m, Dense)}
    return [(n, v.data_ptr(), v.shape, v.stride()) for n, v in found.items()]


def _column_order(found: Sequence[Axis]) -> tuple[int, ...]:
    """For every feature in the node's order, its number in the tensor's."""
    steps = {axis: math.prod(a.size for a in found[i + 1 :]) for i, axis in enumerate(found)}
    order = [0]
    for axis in in_order(found):
        order = [start + i * steps[axis] for start in order for i in range(axis.size)]
    return tuple(order)


def _title(place: Place, node: Node, groups: dict[str, list[Node]]) -> str:
    """The name that a node would like; another may have it. `groups` are the nodes of each path."""
    path, group = place.path, groups[place.path]
    has_parts = not place.is_layer and any(other.startswith(path + ".") for other in groups)
    if len(group) == 1 and not has_parts:
        return path or _kind(node.layer)
    alike = len({id(other.layer) for other in group}) == 1
    if place.is_layer and (alike or all(isinstance(other.layer, Recurrent) for other in group)):
        return f"{path or _kind(node.layer)}.{group.index(node)}"
    if path and place.is_layer and node is group[-1]:
        return path
    return f"{path}.{_kind(node.layer)}".lstrip(".")


def _unique(name: str, taken: set[str]) -> str:
    numbered = (name if i == 1 else f"{name}_{i}" for i in itertools.count(1))
    return next(candidate for candidate in numbered if candidate not in taken)


def _kind(layer: Layer) -> str:
    """A layer in words: `relu`, `lstm`, `context_window`."""
    if isinstance(layer, Activation | Recurrent):
        return layer.kind
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()

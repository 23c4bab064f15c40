"""What the torch importer knows of a tensor: the layer that carries it, and what its axes mean.

A traced program moves axes about: it transposes, merges batch and time, cuts windows. None of this
is a layer. So every tensor that depends on the input is followed as a `Stream`: the node of the
model that carries its frames, and for every dimension the axes it is made of.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.model import INPUT, ContextWindow, Flatten, Layer, Node, Signal, Unflatten


@dataclass(frozen=True)
class Axis:
    """`size` steps along the batch, along time, in a window of frames, or along features.

    `index` tells the feature axes of frames of shape (channels, bands) apart.
    """

    kind: Literal["batch", "time", "window", "feature"]
    size: int
    index: int = 0


Axes = tuple[tuple[Axis, ...], ...]
"""The axes merged in each dimension of a tensor, slowest first. Axes of size 1 are left out."""

_ORDER = ("batch", "time", "window", "feature")


@dataclass(frozen=True, eq=False)
class Stream:
    """A tensor that depends on the input.

    `example` is its value for the example input. `span` is (first frame, frames past the end) with
    regard to the node's signal: (-2, 3) is padded by 2 and 3 zero frames, (1, 1) is shifted by one.
    `bands` is the zero padding around the last feature axis. `window` is the flat node of the
    frames in windows, where one of the axes is a window. `backwards` runs from the last frame.
    """

    example: Tensor
    node: str
    axes: Axes
    span: tuple[int, int] = (0, 0)
    bands: tuple[int, int] = (0, 0)
    window: str | None = None
    backwards: bool = False

    def dim(self, index: int) -> int:
        return index % self.example.ndim

    def is_time(self, dim: int) -> bool:
        return [axis.kind for axis in self.axes[self.dim(dim)]] == ["time"]

    def __str__(self) -> str:
        merged = ("*".join(f"{axis.kind} {axis.size}" for axis in dim) or "1" for dim in self.axes)
        return f"[{', '.join(merged)}]"

    def is_batch(self, dim: int) -> bool:
        return all(axis.kind == "batch" for axis in self.axes[self.dim(dim)])

    def features(self) -> list[Axis]:
        """Window and feature axes in the tensor's order."""
        return [a for dim in self.axes for a in dim if a.kind in ("window", "feature")]

    def feature_dim(self) -> int | None:
        """The one dimension that holds all window and feature axes, and no other axis."""
        mine = set(self.features())
        dims = [i for i, dim in enumerate(self.axes) if mine & set(dim)]
        return dims[0] if len(dims) == 1 and set(self.axes[dims[0]]) == mine else None

    def with_axis(self, dim: int, *axes: Axis) -> Axes:
        """The axes with those of one dimension replaced."""
        kept = tuple(axis for axis in axes if axis.size > 1)
        return (*self.axes[:dim], kept, *self.axes[dim + 1 :])

    def resized(self, example: Tensor) -> Axes:
        """The axes for an example of which the unmerged dimensions have other sizes."""
        return tuple(
            (dataclasses.replace(dim[0], size=size),) if len(dim) == 1 else dim
            for dim, size in zip(self.axes, example.shape, strict=True)
        )


def canonical(axes: Axes, values: Tensor) -> Tensor:
    """A tensor with these axes, of any number of frames, as [batch, frames, features]."""
    flat = [axis for dim in axes for axis in dim]
    split = values.reshape([-1 if axis.kind == "time" else axis.size for axis in flat])
    order = sorted(range(len(flat)), key=lambda i: (_ORDER.index(flat[i].kind), flat[i].index))
    batch = math.prod(axis.size for axis in flat if axis.kind == "batch")
    features = math.prod(a.size for a in flat if a.kind in ("window", "feature"))
    return split.permute(order).reshape(batch, -1, features)


class Graph:
    """The layers found so far. Its errors name no place; who calls it adds that."""

    def __init__(self, input_size: int) -> None:
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, tuple[str, bool]] = {}
        self.place = ("", False)
        self.signals: dict[str, Signal] = {INPUT: Signal((input_size,))}
        self._bare: dict[object, str] = {}

    def add(self, layer: Layer, *inputs: str) -> str:
        """A node for the layer; a layer without tensors on the same inputs is there once."""
        bare = not layer.matrices() and not layer.vectors()
        key = (type(layer), *dataclasses.astuple(layer), inputs) if bare else object()
        if key not in self._bare:
            name = f"#{len(self.nodes)}"
            self.signals[name] = layer.infer(*(self.signals[i] for i in inputs))
            self.nodes[name] = Node(name, layer, inputs)
            self.places[name] = self.place
            self._bare[key] = name
        return self._bare[key]

    def layer(self, name: str) -> Layer | None:
        return self.nodes[name].layer if name in self.nodes else None

    def flatten(self, name: str) -> str:
        """The same features in one axis."""
        if len(self.signals[name].shape) == 1:
            return name
        if isinstance(self.layer(name), Unflatten):
            return self.nodes[name].inputs[0]
        return self.add(Flatten(), name)

    def window(self, name: str, *layers: Layer) -> str:
        """The flat node of a node's frames in windows."""
        name = self.flatten(name)
        for layer in layers:
            name = self.add(layer, name)
        return name

    def columns(self, stream: Stream) -> tuple[str, Tensor | None]:
        """The flat node that carries a stream's features, and where the tensor's columns lie in it.

        The second is None where the order is the same.
        """
        found = stream.features()
        order = sorted(found, key=lambda axis: (_ORDER.index(axis.kind), axis.index))
        node = stream.window or self.flatten(stream.node)
        if found == order:
            return node, None
        places = torch.arange(math.prod(axis.size for axis in order))
        grid = places.view([axis.size for axis in order])
        return node, grid.permute([order.index(axis) for axis in found]).flatten()

    def flat(self, stream: Stream, dim: int) -> tuple[str, Tensor | None]:
        """The same for a stream that must have all its features in this dimension."""
        if stream.features() and stream.feature_dim() != stream.dim(dim):
            raise ImporterError(f"takes all features of a frame in dimension {dim}, found {stream}")
        return self.columns(stream)

    def finalize(self, stream: Stream) -> Stream:
        """The stream with its window made and, where they lie in one dimension, its features flat.

        Raises ImporterError where they lie in an order that no layer has.
        """
        dim = stream.feature_dim()
        if dim is None and not stream.window:
            return stream
        node, order = self.columns(stream)
        if dim is None or order is not None:
            raise ImporterError(
                "the features are in an order that only a linear or recurrent layer can take in; "
                "flatten windows frame by frame, and channels before bands"
            )
        axes = stream.with_axis(dim, Axis("feature", self.signals[node].size))
        return dataclasses.replace(stream, node=node, axes=axes, window=None)

    def image(self, stream: Stream, channel: int, band: int) -> str:
        """The node of shape (channels, bands) for a tensor with these two dimensions.

        Raises ImporterError where they hold something else.
        """
        found = [list(stream.axes[dim]) for dim in (channel, band)]
        shape = self.signals[stream.node].shape
        if stream.window or any(a.kind != "feature" for dim in found for a in dim):
            raise ImporterError("takes channels and bands in two axes of their own")
        if len(shape) == 1 and (not found[0] or not found[1]):
            return self.add(Unflatten(shape[0] if found[0] else 1), stream.node)
        if [a.index for dim in found for a in dim] != [i for i in (0, 1) if shape[i] > 1]:
            raise ImporterError(f"takes channels, then bands, found frames of shape {shape}")
        return stream.node


def context(first: int, last: int) -> ContextWindow:
    """The window over the frames from `first` to `last`, relative to the present one."""
    if first > 0 or last < 0:
        raise ImporterError(f"a window of frames {first} to {last} leaves the present frame out")
    return ContextWindow(-first, last)


@dataclass(frozen=True)
class Unusable:
    """A value that no layer gives; `reason` says why, should anything use it."""

    reason: str


@dataclass(frozen=True, eq=False)
class Call:
    """An operator applied: its arguments by name, and what torch computes for the example."""

    graph: Graph
    arguments: Mapping[str, Any]
    result: Any
    only_use: bool
    """Whether nothing else uses the first argument."""

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def stream(self, name: str) -> Stream:
        value = self[name]
        if not isinstance(value, Stream):
            raise ImporterError(f"argument {name!r} does not depend on the model's input")
        return value

    def tensor(self, name: str) -> Tensor:
        """A weight. Raises ImporterError where it depends on the input or is not float32."""
        value = self[name]
        if isinstance(value, Stream | Unusable):
            raise ImporterError(
                f"argument {name!r} depends on the model's input, expected a weight"
            )
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            found = getattr(value, "dtype", value)
            raise ImporterError(
                f"argument {name!r} is {found}, expected float32; export in float32"
            )
        return value

    def optional(self, name: str) -> Tensor | None:
        return None if self[name] is None else self.tensor(name)

    def unpadded(self, name: str) -> Stream:
        """A stream of exactly the frames that its node, or its window, puts out."""
        stream = self.stream(name)
        if stream.span != (0, 0) or stream.bands != (0, 0):
            raise ImporterError(
                "padding and cut frames are supported before convolutions and windows only"
            )
        return stream

    def whole(self, name: str) -> Stream:
        """The same, finalized."""
        return self.graph.finalize(self.unpadded(name))

    def becomes(self, stream: Stream, node: str, axes: Axes) -> Stream:
        """The result as the stream of another node."""
        return Stream(self.result, node, axes, backwards=stream.backwards)

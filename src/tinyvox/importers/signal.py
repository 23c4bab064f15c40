"""What an importer knows about a tensor: the layer that computes it, and what its dimensions mean.

A foreign model is a list of operators on tensors. Many of these operators are no layers: they
transpose, reshape, pad, slice or join tensors, so that the next layer finds batch, time and
features where it wants them. A tinyvox model has no such operators: each of its layers takes frames
and gives frames. So an importer follows every tensor that depends on the model's input as a
`Stream`: the node whose frames the tensor holds, and for each dimension of the tensor the axes
(batch, time, window, feature) that it is made of. Nothing here knows a framework or a file format.

How an importer uses it, for one order of the input's dimensions:

1. `graph = LayerGraph(input_size)` collects the layers, and
   `stream = input_stream(("batch", "time", "feature"), shape)` is the model's input. All sizes are
   plain numbers: import the model for an example of two frames or more, with another number of
   frames than features, so that no dimension can be taken for another.
2. Go through the foreign operators in their order. An operator that only moves values is one call
   of `axis_operations`: `permute`, `reshape`, `pad`, `unfold`, `concatenate` and so on. Each gives
   the stream of the operator's result.
3. An operator that is a layer becomes a node:

       node, order = graph.flat(stream.unpadded(), -1)
       weight = weight if order is None else weight[:, list(order)]
       node = graph.add(Linear(Dense(weight), bias), node)
       stream = stream.becomes(node, stream.with_axis(-1, Axis("feature", len(weight))))

   A convolution takes the padding of `stream.span` and `stream.bands` into itself; every other
   layer needs `stream.unpadded()`. Set `graph.place` before, so that layers get the names of
   the source.
4. `graph.model(graph.finalize(stream).node)` is the model.
5. Compare: run model and source on the same input. `rearrangement(stream.axes)` brings the values
   of any tensor into the [batch, frames, features] of a tinyvox model.

What cannot be followed raises ImporterError with what was found and what was expected. The message
names no place; the importer adds the operator and its name in the source.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinyvox.errors import ImporterError
from tinyvox.model import INPUT

Kind = Literal["batch", "time", "window", "feature"]


@dataclass(frozen=True)
class Axis:
    """`size` steps along the batch, along time, in a window of frames, or along the features.

    `index` tells the two feature axes of frames of shape (channels, bands) apart: 0 and 1.
    """

    kind: Kind
    size: int
    index: int = 0


Axes = tuple[tuple[Axis, ...], ...]
"""The axes merged in each dimension of a tensor, slowest first. Axes of size 1 are left out."""

_ORDER: tuple[Kind, ...] = ("batch", "time", "window", "feature")


def in_order(axes: Sequence[Axis]) -> list[Axis]:
    """The axes as a tinyvox model has them: batch, time, window, channels, bands."""
    return sorted(axes, key=_rank)


def _rank(axis: Axis) -> tuple[int, int]:
    return _ORDER.index(axis.kind), axis.index


@dataclass(frozen=True, eq=False)
class Stream:
    """A tensor that depends on the model's input. A frozen value: an operator gives a new one.

    `node` is the node whose frames the tensor holds, and `axes` says how they lie in it. `span` is
    (first frame, frames past the end), counted in the node's own frames: (-2, 3) is padded by two
    zero frames before and three after, (1, 1) is shifted by one frame. `bands` is the zero padding
    before and after the last feature axis. `window` is the node that gives the windows of frames,
    flat, where one of the axes is a window. `backwards` says that the last frame comes first.
    """

    node: str
    axes: Axes
    span: tuple[int, int] = (0, 0)
    bands: tuple[int, int] = (0, 0)
    window: str | None = None
    backwards: bool = False

    def __str__(self) -> str:
        merged = ("*".join(f"{axis.kind} {axis.size}" for axis in dim) or "1" for dim in self.axes)
        return f"[{', '.join(merged)}]"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(math.prod(axis.size for axis in dim) for dim in self.axes)

    @property
    def is_padded(self) -> bool:
        """Whether frames or bands were added, or frames cut off, since the node."""
        return self.span != (0, 0) or self.bands != (0, 0)

    def dim(self, index: int) -> int:
        """A dimension counted from the front; negative ones count from the back."""
        return index % len(self.axes)

    def is_time(self, dim: int) -> bool:
        """Whether this dimension is time, and nothing else."""
        return [axis.kind for axis in self.axes[self.dim(dim)]] == ["time"]

    def is_batch(self, dim: int) -> bool:
        """Whether this dimension is the batch, or has size 1."""
        return all(axis.kind == "batch" for axis in self.axes[self.dim(dim)])

    def features(self) -> list[Axis]:
        """The window and feature axes, in the tensor's order."""
        return [a for dim in self.axes for a in dim if a.kind in ("window", "feature")]

    def feature_dim(self) -> int | None:
        """The one dimension that holds all window and feature axes and nothing else, or None."""
        mine = set(self.features())
        dims = [i for i, dim in enumerate(self.axes) if mine & set(dim)]
        return dims[0] if len(dims) == 1 and set(self.axes[dims[0]]) == mine else None

    def with_axis(self, dim: int, *axes: Axis) -> Axes:
        """The axes with those of one dimension replaced."""
        dim = self.dim(dim)
        kept = tuple(axis for axis in axes if axis.size > 1)
        return (*self.axes[:dim], kept, *self.axes[dim + 1 :])

    def resized(self, shape: Sequence[int]) -> Axes:
        """The axes for a tensor of another shape, in which merged dimensions keep their size."""
        return tuple(
            (dataclasses.replace(dim[0], size=size),) if len(dim) == 1 else dim
            for dim, size in zip(self.axes, shape, strict=True)
        )

    def with_image(self, channel: int, band: int) -> Axes:
        """The axes with the two dimensions of features as channels and bands."""
        axes = self.with_axis(channel, Axis("feature", self.shape[channel], 0))
        band_axes = (Axis("feature", self.shape[band], 1),) if self.shape[band] > 1 else ()
        return (*axes[:band], band_axes, *axes[band + 1 :])

    def with_size(self, dim: int, size: int) -> Axes:
        """The axes with another size of one dimension that is not merged."""
        shape = list(self.shape)
        shape[self.dim(dim)] = size
        return self.resized(shape)

    def becomes(self, node: str, axes: Axes) -> Stream:
        """The stream that a layer gives for this one."""
        return Stream(node, axes, backwards=self.backwards)

    def unpadded(self) -> Stream:
        """The same stream. Raises ImporterError where frames or bands were added or cut off."""
        if self.is_padded:
            raise ImporterError(
                "padding and cut frames are supported before convolutions and windows only"
            )
        return self


def feature_dims(stream: Stream) -> list[int]:
    """The dimensions that hold features alone, one or more of them."""
    return [i for i, dim in enumerate(stream.axes) if dim and all(a.kind == "feature" for a in dim)]


def input_stream(layout: Sequence[str], shape: Sequence[int]) -> Stream:
    """The model's input. `layout` names each dimension: batch, time, window, feature (channels,
    then bands, where there are two), or "" for size 1."""
    kinds: dict[str, Kind] = {kind: kind for kind in _ORDER}
    axes = (
        (Axis(kinds[kind], size, layout[:i].count(kind)),) if size > 1 else ()
        for i, (kind, size) in enumerate(zip(layout, shape, strict=True))
    )
    return Stream(INPUT, tuple(axes))


@dataclass(frozen=True)
class Rearrangement:
    """The steps that turn an array into [batch, frames, features], for any number of frames.

    Reshape it to `split`, permute its dimensions by `order`, reshape it to `shape`. One size in
    `split` and in `shape` is -1: the frames.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, int, int]


def rearrangement(axes: Axes) -> Rearrangement:
    """How a tensor with these axes is brought into [batch, frames, features]."""
    flat = [axis for dim in axes for axis in dim]
    split = tuple(-1 if axis.kind == "time" else axis.size for axis in flat)
    order = tuple(sorted(range(len(flat)), key=lambda i: _rank(flat[i])))
    batch = math.prod(axis.size for axis in flat if axis.kind == "batch")
    features = math.prod(a.size for a in flat if a.kind in ("window", "feature"))
    return Rearrangement(split, order, (batch, -1, features))

"""What the inputs of an ONNX graph are declared to be, and the sizes that are tried for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.conversion import windows

if TYPE_CHECKING:
    from onnx import ModelProto

FRAMES, MORE_FRAMES = 7, 64
"""Frames of the example of a graph that takes any number: at first, and where these are too few."""
SAMPLE_RATE = 16000
"""What a whole number that a graph takes is, unless it is a length."""
_LARGEST = 1 << 24
"""Elements of an input."""
_FLOATS, _INTEGERS = (1, 10, 11, 16), (6, 7)
"""Numbers of types in ONNX files."""
_TIME = re.compile(r"time|frame|seq|len|^t$|^l$", re.IGNORECASE)
_BATCH = re.compile(r"batch|^n$|^b$", re.IGNORECASE)

Sizes = dict[str, int]
"""The sizes of the free dimensions, by their names."""


@dataclass(frozen=True)
class Input:
    """An input: `dims` are sizes, or names of sizes that are free."""

    name: str
    dims: tuple[int | str, ...]
    is_float: bool

    def shape(self, sizes: Sizes) -> list[int]:
        """The shape where the free dimensions have these sizes, and all others 1."""
        return [sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in self.dims]

    @property
    def free(self) -> list[str]:
        """The names of the free dimensions."""
        return [dim for dim in self.dims if isinstance(dim, str)]

    def example(self, sizes: Sizes) -> Tensor:
        """Random values; windows of one signal where the input holds windows."""
        shape = self.shape(sizes)
        if math.prod(shape) > _LARGEST or min(shape, default=1) < 1:
            raise ImporterError(f"input {self.name!r} has shape {shape}, expected smaller sizes")
        generator = torch.Generator().manual_seed(0)
        if is_windowed(shape):
            batch, frames, window, features = shape
            signal = torch.randn(batch, frames, features, generator=generator)
            return windows(signal, window)
        return torch.randn(shape, generator=generator)


def is_windowed(shape: Sequence[int]) -> bool:
    """Whether an input of this shape can only be frames in windows."""
    return len(shape) == 4 and shape[1] != 1


def inputs_of(model: ModelProto) -> list[Input]:
    """The inputs of a graph that are no weights."""
    weights = {proto.name for proto in model.graph.initializer}
    return [_input(each) for each in model.graph.input if each.name not in weights]


def _input(proto: object) -> Input:
    from onnx import ValueInfoProto

    assert isinstance(proto, ValueInfoProto)
    kind = proto.type.tensor_type
    if kind.elem_type not in (*_FLOATS, *_INTEGERS) or not kind.HasField("shape"):
        raise ImporterError(
            f"input {proto.name!r} is no tensor of floats or whole numbers with a shape; "
            "export the model with the shapes of its inputs"
        )
    dims = tuple(
        int(dim.dim_value) if dim.dim_value > 0 else dim.dim_param or f"{proto.name} {i}"
        for i, dim in enumerate(kind.shape.dim)
    )
    return Input(proto.name, dims, kind.elem_type in _FLOATS)


def guesses(inputs: Sequence[Input]) -> Iterator[Sizes]:
    """Sizes of the free dimensions, of which one is time, in the order of the tries.

    Last comes that none is time, as in a graph that takes a frame a call.
    """
    features = [each for each in inputs if each.is_float]
    free = dict.fromkeys(name for each in features for name in each.free)
    alone = {name for name in free if sum(name in each.free for each in features) == 1}

    def rank(name: str) -> tuple[bool, bool, bool]:
        return bool(_BATCH.search(name)), not _TIME.search(name), name not in alone

    largest = max((each.free[::-1] for each in features), key=len, default=[])
    names = sorted(dict.fromkeys([*largest, *free]), key=rank)
    yield from ({name: FRAMES} for name in names[:4])
    yield from ({name: MORE_FRAMES} for name in names[:2])
    yield {}


def is_batch(dim: int | str) -> bool:
    """Whether a dimension counts utterances, by its name."""
    return isinstance(dim, str) and bool(_BATCH.search(dim))


def is_rate(each: Input) -> bool:
    """Whether a whole number is taken to be a sample rate, and not a number of frames."""
    return not each.dims and not re.search("len", each.name, re.IGNORECASE)


def lengths(each: Input, sizes: Sizes, frames: int) -> Tensor:
    """The value of an input of whole numbers: a sample rate, or the number of frames."""
    if is_rate(each):
        return torch.tensor(SAMPLE_RATE)
    return torch.full(each.shape(sizes), frames)

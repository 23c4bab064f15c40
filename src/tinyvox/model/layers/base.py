"""What all layers share: the signals between them, and access to their tensors.

A signal is a stream of frames. Every frame has the shape `Signal.shape`: `(size,)`, or
`(channels, bands)` around two-dimensional convolutions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.matrix import Coded, Dense, Matrix, Product


@dataclass(frozen=True)
class Signal:
    """The shape of one frame, and how many input frames make one frame of the signal.

    A stride of 0 says that a whole utterance makes one frame.
    """

    shape: tuple[int, ...]
    stride: int = 1

    @property
    def size(self) -> int:
        """Values in a frame."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Tensors:
    """A value whose fields are matrices, vectors, other `Tensors`, or settings."""

    def matrices(self) -> dict[str, Matrix]:
        """Matrices by dotted field name, in the order of the fields."""
        return {
            name: value
            for name, value in self._tensors()
            if isinstance(value, Dense | Coded | Product)
        }

    def vectors(self) -> dict[str, Tensor]:
        """Vectors (biases, normalization) by dotted field name, in the order of the fields."""
        return {name: value for name, value in self._tensors() if isinstance(value, Tensor)}

    def settings(self) -> dict[str, object]:
        """The fields that are not tensors: kinds, kernels, strides, limits."""
        held = (Tensors, Dense, Coded, Product, Tensor)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if not isinstance(value, held)}

    def with_tensors(self, new: Mapping[str, Matrix | Tensor]) -> Self:
        """A copy in which the matrices and vectors of these dotted field names are replaced."""
        changes: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensors):
                prefix = field.name + "."
                inner = {k.removeprefix(prefix): v for k, v in new.items() if k.startswith(prefix)}
                changes[field.name] = value.with_tensors(inner) if inner else value
            elif field.name in new:
                changes[field.name] = new[field.name]
        return dataclasses.replace(self, **changes)

    def _tensors(self) -> Iterator[tuple[str, Matrix | Tensor]]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensors):
                yield from ((f"{field.name}.{name}", inner) for name, inner in value._tensors())
            elif isinstance(value, Dense | Coded | Product | Tensor):
                yield field.name, value


@dataclass(frozen=True, eq=False)
class Layer(Tensors):
    """The base of all layers. `arity` is the number of inputs; None means two or more."""

    arity: ClassVar[int | None] = 1

    def infer(self, *inputs: Signal) -> Signal:
        """The output signal for these input signals. Raises ModelError where they do not fit."""
        if self.arity is not None and len(inputs) != self.arity:
            raise ModelError(f"takes {self.arity} input(s), found {len(inputs)}")
        return self._infer(*inputs)

    def _infer(self, *inputs: Signal) -> Signal:
        return inputs[0]


def expect(what: str, found: object, expected: object) -> None:
    """Raise ModelError, with both values, where they differ."""
    if found != expected:
        raise ModelError(f"{what} is {found}, expected {expected}")


def expect_least(least: int, **found: int) -> None:
    """Raise ModelError for the first of these named values that is below `least`."""
    for name, value in found.items():
        if value < least:
            raise ModelError(f"{name} is {value}, expected {least} or more")


def flat_size(signal: Signal) -> int:
    """The size of a frame of shape `(size,)`. Raises ModelError for another shape."""
    if len(signal.shape) != 1:
        raise ModelError(f"takes frames of shape (size,), found {signal.shape}; add a Flatten")
    return signal.shape[0]

"""Layers that arrange frames and have no tensors: windows, stacks, parts, sums, joins,
reductions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, flat_size


@dataclass(frozen=True, eq=False)
class ContextWindow(Layer):
    """Each frame with `left` frames before and `right` after it, zeros beyond the utterance.

    The output is these frames in order of time, [(left + 1 + right) * size].
    """

    left: int
    right: int

    def _infer(self, *inputs: Signal) -> Signal:
        if min(self.left, self.right) < 0:
            raise ModelError(f"context is {self.left} left, {self.right} right, expected 0 or more")
        return Signal((flat_size(inputs[0]) * (self.left + 1 + self.right),), inputs[0].stride)


@dataclass(frozen=True, eq=False)
class FrameStacking(Layer):
    """`count` frames in one, every `stride` frames; an incomplete stack at the end is dropped."""

    count: int
    stride: int

    def _infer(self, *inputs: Signal) -> Signal:
        if min(self.count, self.stride) < 1:
            raise ModelError(f"stacks {self.count} frames every {self.stride}, expected 1 or more")
        return Signal((flat_size(inputs[0]) * self.count,), inputs[0].stride * self.stride)


@dataclass(frozen=True, eq=False)
class Subsample(Layer):
    """Every `factor`-th frame, beginning with the first."""

    factor: int

    def _infer(self, *inputs: Signal) -> Signal:
        if self.factor < 1:
            raise ModelError(f"factor is {self.factor}, expected 1 or more")
        return Signal(inputs[0].shape, inputs[0].stride * self.factor)


@dataclass(frozen=True, eq=False)
class Unflatten(Layer):
    """Frames of shape (channels * bands,) to (channels, bands)."""

    channels: int

    def _infer(self, *inputs: Signal) -> Signal:
        size = flat_size(inputs[0])
        if self.channels < 1 or size % self.channels:
            raise ModelError(f"size {size} does not divide into {self.channels} channels")
        return Signal((self.channels, size // self.channels), inputs[0].stride)


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """Frames of shape (channels, bands) to (channels * bands,), bands varying fastest."""

    def _infer(self, *inputs: Signal) -> Signal:
        return Signal((inputs[0].size,), inputs[0].stride)


def _same_stride(inputs: Sequence[Signal]) -> int:
    strides = [signal.stride for signal in inputs]
    if len(inputs) < 2 or len(set(strides)) != 1:
        raise ModelError(f"needs two or more inputs at one frame rate, found strides {strides}")
    return strides[0]


def _same_shape(inputs: Sequence[Signal]) -> Signal:
    shapes = [signal.shape for signal in inputs]
    if len(set(shapes)) != 1:
        raise ModelError(f"takes inputs of one shape, found {shapes}")
    return Signal(shapes[0], _same_stride(inputs))


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """The sum of two or more inputs of one shape (a residual connection)."""

    arity: ClassVar[int | None] = None

    def _infer(self, *inputs: Signal) -> Signal:
        return _same_shape(inputs)


@dataclass(frozen=True, eq=False)
class Multiply(Layer):
    """The product, value by value, of two or more inputs of one shape (a mask or a gate)."""

    arity: ClassVar[int | None] = None

    def _infer(self, *inputs: Signal) -> Signal:
        return _same_shape(inputs)


@dataclass(frozen=True, eq=False)
class Slice(Layer):
    """Values `start` to `stop` - 1 of each frame."""

    start: int
    stop: int

    def _infer(self, *inputs: Signal) -> Signal:
        size = flat_size(inputs[0])
        if not 0 <= self.start < self.stop <= size:
            raise ModelError(f"takes values {self.start} to {self.stop} of {size}")
        return Signal((self.stop - self.start,), inputs[0].stride)


REDUCTIONS = ("last", "first", "mean", "max", "sum", "variance", "variance_unbiased", "middle")
"""The kinds of reduction over time. `middle` is frame `count // 2`; `variance_unbiased` divides by
`count - 1`, and is 0 for one frame."""


@dataclass(frozen=True, eq=False)
class Reduce(Layer):
    """One frame for the whole utterance, by `kind` of REDUCTIONS; none where it has no frames."""

    kind: str

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in REDUCTIONS:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(REDUCTIONS)}")
        return Signal(inputs[0].shape, 0)


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Two or more inputs, one after the other in each frame."""

    arity: ClassVar[int | None] = None

    def _infer(self, *inputs: Signal) -> Signal:
        return Signal((sum(flat_size(signal) for signal in inputs),), _same_stride(inputs))

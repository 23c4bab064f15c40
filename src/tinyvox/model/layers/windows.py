"""Layers without tensors over frames and bands: pooling, values by their places, frames that are
taken apart, and one frame beside each of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, expect, expect_least, flat_size

POOLINGS = ("max", "mean", "mean_inside")
"""The kinds of pooling. Padding counts as zeros in a `mean`; a `mean_inside` and a `max` leave it
out."""

ZERO = -1
"""The index with which `Take` gives a zero."""


@dataclass(frozen=True, eq=False)
class Pool(Layer):
    """One value for each window over time and bands, by `kind` of POOLINGS, channel by channel.

    Pairs are (time, band); `padding` is (before, after) in time, then (below, above) in bands, each
    less than the kernel. Flat frames have one band.
    """

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in POOLINGS:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(POOLINGS)}")
        expect_least(1, kernel=min(self.kernel), stride=min(self.stride))
        expect_least(0, padding=min(self.padding))
        for size, amounts in zip(self.kernel, (self.padding[:2], self.padding[2:]), strict=True):
            if max(amounts) >= size:
                raise ModelError(f"pads {max(amounts)} around a kernel of {size}, expected less")
        shape, stride = inputs[0].shape, inputs[0].stride * self.stride[0]
        bands = shape[1] if len(shape) == 2 else 1
        if len(shape) == 1:
            expect("kernel in bands", self.kernel[1], 1)
        room = bands + sum(self.padding[2:]) - self.kernel[1]
        if room < 0:
            raise ModelError(f"a kernel of {self.kernel[1]} bands does not fit {bands} bands")
        out = room // self.stride[1] + 1
        return Signal((shape[0], out) if len(shape) == 2 else shape, stride)


@dataclass(frozen=True, eq=False)
class Take(Layer):
    """Values of a frame by their places: value `i` of the output is value `indices[i]` of the
    input, or 0 where that is ZERO.

    `axis` is 0 for flat frames and for channels, 1 for bands.
    """

    indices: tuple[int, ...]
    axis: int = 0

    def _infer(self, *inputs: Signal) -> Signal:
        shape = inputs[0].shape
        if self.axis not in range(len(shape)):
            raise ModelError(f"axis is {self.axis}, expected 0 to {len(shape) - 1}")
        wrong = [i for i in self.indices if not ZERO <= i < shape[self.axis]]
        if wrong or not self.indices:
            found = wrong[0] if wrong else "nothing"
            raise ModelError(f"takes value {found} of {shape[self.axis]}, expected at least one")
        taken = (*shape[: self.axis], len(self.indices), *shape[self.axis + 1 :])
        return Signal(taken, inputs[0].stride)


@dataclass(frozen=True, eq=False)
class FrameUnstacking(Layer):
    """`count` frames out of each, as a FrameStacking of so many had put them together.

    No signal has more frames than the model's input, so the frames must have been made fewer
    before.
    """

    count: int

    def _infer(self, *inputs: Signal) -> Signal:
        size, stride = flat_size(inputs[0]), inputs[0].stride
        if self.count < 1 or size % self.count:
            raise ModelError(f"size {size} does not divide into {self.count} frames")
        if stride == 0 or stride % self.count:
            raise ModelError(
                f"makes {self.count} frames of one that stands for {stride} of the input's, and a "
                f"model gives no more frames than it takes; expected a multiple of {self.count}"
            )
        return Signal((size // self.count,), stride // self.count)


@dataclass(frozen=True, eq=False)
class Spread(Layer):
    """The one frame of the first input, for each frame of the second."""

    arity: ClassVar[int | None] = 2

    def _infer(self, *inputs: Signal) -> Signal:
        one, other = inputs
        if one.stride != 0 or other.stride == 0:
            raise ModelError(
                "takes one frame an utterance, then a signal of many, found strides "
                f"{[one.stride, other.stride]}"
            )
        return Signal(one.shape, other.stride)

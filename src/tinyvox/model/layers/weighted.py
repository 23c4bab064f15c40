"""Layers with one matrix: linear layers, convolutions, and tables of embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.layers.base import Layer, Signal, expect, expect_least, flat_size
from tinyvox.model.matrix import Matrix


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """`y = W x + b`: weight [out, in], bias [out]."""

    weight: Matrix
    bias: Tensor | None = None

    def _infer(self, *inputs: Signal) -> Signal:
        rows, columns = self.weight.shape
        expect("input size", flat_size(inputs[0]), columns)
        if self.bias is not None:
            expect("bias shape", tuple(self.bias.shape), (rows,))
        return Signal((rows,), inputs[0].stride)


@dataclass(frozen=True, eq=False)
class Conv1d(Layer):
    """Convolution over time: weight [out, in / groups * kernel], kernel positions varying fastest.

    `padding` is the number of zero frames (before, after) the utterance.
    """

    weight: Matrix
    bias: Tensor | None
    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def _infer(self, *inputs: Signal) -> Signal:
        expect_least(1, kernel=self.kernel, stride=self.stride, dilation=self.dilation)
        expect_least(1, groups=self.groups)
        expect_least(0, padding=min(self.padding))
        rows, columns = self.weight.shape
        expect("input channels", flat_size(inputs[0]), columns // self.kernel * self.groups)
        expect("weight columns modulo kernel", columns % self.kernel, 0)
        expect("output channels modulo groups", rows % self.groups, 0)
        if self.bias is not None:
            expect("bias shape", tuple(self.bias.shape), (rows,))
        return Signal((rows,), inputs[0].stride * self.stride)


@dataclass(frozen=True, eq=False)
class Conv2d(Layer):
    """Convolution over time and bands: weight [out, in / groups * kernel time * kernel band].

    Frames have the shape (channels, bands). Pairs are (time, band); `padding` is (before, after) in
    time, then (below, above) in bands.
    """

    weight: Matrix
    bias: Tensor | None
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> tuple[int, int]:
        """The frames and the bands from the first to the last that the kernel reads."""
        time, band = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        return time, band

    def _infer(self, *inputs: Signal) -> Signal:
        if len(inputs[0].shape) != 2:
            raise ModelError(f"takes frames of shape (channels, bands), found {inputs[0].shape}")
        expect_least(1, kernel=min(self.kernel), stride=min(self.stride))
        expect_least(1, dilation=min(self.dilation), groups=self.groups)
        expect_least(0, padding=min(self.padding))
        channels, bands = inputs[0].shape
        rows, columns = self.weight.shape
        expect("weight columns", columns * self.groups, channels * math.prod(self.kernel))
        expect("output channels modulo groups", rows % self.groups, 0)
        if self.bias is not None:
            expect("bias shape", tuple(self.bias.shape), (rows,))
        room = bands + self.padding[2] + self.padding[3] - self.reach[1]
        if room < 0:
            raise ModelError(f"a kernel of {self.reach[1]} bands does not fit {bands} bands")
        out = room // self.stride[1] + 1
        return Signal((rows, out), inputs[0].stride * self.stride[0])


@dataclass(frozen=True, eq=False)
class Embedding(Layer):
    """Row `id` of a table for each frame: weight [ids, out]. A frame of the input holds one id.

    The layer reads the model's input, which are ids alone: whole numbers from 0, below `ids`.
    """

    weight: Matrix

    @property
    def ids(self) -> int:
        """The number of ids."""
        return self.weight.shape[0]

    def _infer(self, *inputs: Signal) -> Signal:
        expect("values in a frame of token ids", flat_size(inputs[0]), 1)
        return Signal((self.weight.shape[1],), inputs[0].stride)

"""The layers: frozen values that know their tensors and the shape of what they put out.

A signal is a stream of frames. Every frame has the shape `Signal.shape`: `(size,)`, or
`(channels, bands)` around two-dimensional convolutions. `Signal.stride` counts input frames to one
frame of the signal. What a layer computes is defined in `execute.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.matrix import Coded, Dense, Matrix, Product


@dataclass(frozen=True)
class Signal:
    """Shape of one frame, and input frames to a frame."""

    shape: tuple[int, ...]
    stride: int = 1

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Tensors:
    """Something whose fields hold matrices, vectors, or again `Tensors`."""

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
        """The fields that hold no tensors: kinds, kernels, strides, limits."""
        held = (Tensors, Dense, Coded, Product, Tensor)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if not isinstance(value, held)}

    def with_tensors(self, new: Mapping[str, Matrix | Tensor]) -> Self:
        """A copy in which the named matrices and vectors are replaced."""
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
    """Base of the layers. `infer` gives the output signal, or raises ModelError."""

    arity: ClassVar[int | None] = 1

    def infer(self, *inputs: Signal) -> Signal:
        """The signal put out for these inputs. Raises ModelError where they do not fit."""
        if self.arity is not None and len(inputs) != self.arity:
            raise ModelError(f"takes {self.arity} input(s), found {len(inputs)}")
        return self._infer(*inputs)

    def _infer(self, *inputs: Signal) -> Signal:
        return inputs[0]


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(f"{what} is {found}, expected {expected}")


def _expect_least(least: int, **found: int) -> None:
    for name, value in found.items():
        if value < least:
            raise ModelError(f"{name} is {value}, expected {least} or more")


def _flat(signal: Signal) -> int:
    if len(signal.shape) != 1:
        raise ModelError(f"takes frames of shape (size,), found {signal.shape}; add a Flatten")
    return signal.shape[0]


@dataclass(frozen=True, eq=False)
class Linear(Layer):
    """`y = W x + b`: weight [out, in], bias [out]."""

    weight: Matrix
    bias: Tensor | None = None

    def _infer(self, *inputs: Signal) -> Signal:
        rows, columns = self.weight.shape
        _expect("input size", _flat(inputs[0]), columns)
        if self.bias is not None:
            _expect("bias shape", tuple(self.bias.shape), (rows,))
        return Signal((rows,), inputs[0].stride)


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@dataclass(frozen=True, eq=False)
class Cell(Tensors):
    """One direction of a recurrent layer.

    weight_ih [gates * hidden, in], weight_hh [gates * hidden, size], bias [gates * hidden] (the
    sum of the input's and the hidden state's bias). Gates in PyTorch's order: i f g o (LSTM),
    r z n (GRU). A GRU's new gate keeps the hidden state's bias apart, in bias_hn [hidden], because
    the reset gate multiplies it.

    An LSTM may project what its units give: its hidden state is weight_hr [size, hidden] times
    that. Source: Sak et al., "Long short-term memory recurrent neural network architectures for
    large scale acoustic modeling", 2014, section 2.
    """

    weight_ih: Matrix
    weight_hh: Matrix
    bias: Tensor | None = None
    bias_hn: Tensor | None = None
    weight_hr: Matrix | None = None

    @property
    def hidden(self) -> int:
        """How many units there are."""
        return (self.weight_hh if self.weight_hr is None else self.weight_hr).shape[1]

    @property
    def size(self) -> int:
        """How many values the hidden state has, which is what the cell puts out."""
        return self.weight_hh.shape[1]


def is_projection(name: str) -> bool:
    """Whether the matrix of this full name is the projection of a cell: behind what bends its
    units, and without a bias."""
    return name.endswith(".weight_hr")


@dataclass(frozen=True, eq=False)
class Recurrent(Layer):
    """One recurrent layer: a cell that runs forward in time, one that runs backward, or both.

    The output is the hidden state, [size], forward before backward. A stack of layers is a chain
    of these. `kind` is a key of GATES. States start at zero.
    """

    kind: str
    forward: Cell | None = None
    backward: Cell | None = None

    def cells(self) -> dict[str, Cell]:
        """The cells that are there, by field name, in the order of the output."""
        both = {"forward": self.forward, "backward": self.backward}
        return {name: cell for name, cell in both.items() if cell is not None}

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in GATES:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(GATES)}")
        if not self.cells():
            raise ModelError("has no cell, expected one forward, one backward, or both")
        for cell in self.cells().values():
            self._check(cell, _flat(inputs[0]))
        return Signal((sum(c.size for c in self.cells().values()),), inputs[0].stride)

    def _check(self, cell: Cell, inputs: int) -> None:
        rows = GATES[self.kind] * cell.hidden
        _expect("weight_ih shape", cell.weight_ih.shape, (rows, inputs))
        _expect("weight_hh shape", cell.weight_hh.shape, (rows, cell.size))
        if cell.weight_hr is not None:
            _expect("kind of a cell with weight_hr", self.kind, "lstm")
            _expect("weight_hr shape", cell.weight_hr.shape, (cell.size, cell.hidden))
        if cell.bias is not None:
            _expect("bias shape", tuple(cell.bias.shape), (rows,))
        if cell.bias_hn is not None:
            _expect("kind of a cell with bias_hn", self.kind, "gru")
            _expect("bias_hn shape", tuple(cell.bias_hn.shape), (cell.hidden,))


@dataclass(frozen=True, eq=False)
class Conv1d(Layer):
    """Convolution over time: weight [out, in / groups * kernel], the kernel running fastest.

    `padding` is zero frames (before, after) the utterance.
    """

    weight: Matrix
    bias: Tensor | None
    kernel: int
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def _infer(self, *inputs: Signal) -> Signal:
        _expect_least(1, kernel=self.kernel, stride=self.stride, dilation=self.dilation)
        _expect_least(1, groups=self.groups)
        _expect_least(0, padding=min(self.padding))
        rows, columns = self.weight.shape
        _expect("input channels", _flat(inputs[0]), columns // self.kernel * self.groups)
        _expect("weight columns modulo kernel", columns % self.kernel, 0)
        _expect("output channels modulo groups", rows % self.groups, 0)
        if self.bias is not None:
            _expect("bias shape", tuple(self.bias.shape), (rows,))
        return Signal((rows,), inputs[0].stride * self.stride)


@dataclass(frozen=True, eq=False)
class Conv2d(Layer):
    """Convolution over time and bands: weight [out, in * kernel time * kernel band].

    Frames have the shape (channels, bands). Pairs are (time, band); `padding` is (before, after) in
    time, then (below, above) in bands.
    """

    weight: Matrix
    bias: Tensor | None
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def _infer(self, *inputs: Signal) -> Signal:
        if len(inputs[0].shape) != 2:
            raise ModelError(f"takes frames of shape (channels, bands), found {inputs[0].shape}")
        _expect_least(1, kernel=min(self.kernel), stride=min(self.stride))
        _expect_least(0, padding=min(self.padding))
        channels, bands = inputs[0].shape
        rows, columns = self.weight.shape
        _expect("weight columns", columns, channels * math.prod(self.kernel))
        if self.bias is not None:
            _expect("bias shape", tuple(self.bias.shape), (rows,))
        room = bands + self.padding[2] + self.padding[3] - self.kernel[1]
        if room < 0:
            raise ModelError(f"a kernel of {self.kernel[1]} bands does not fit {bands} bands")
        out = room // self.stride[1] + 1
        return Signal((rows, out), inputs[0].stride * self.stride[0])


@dataclass(frozen=True, eq=False)
class BatchNorm(Layer):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, each [channels], statistics fixed."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float = 1e-5

    def _infer(self, *inputs: Signal) -> Signal:
        for name, vector in self.vectors().items():
            _expect(f"{name} shape", tuple(vector.shape), (inputs[0].shape[0],))
        least = float(self.variance.min())
        if not (self.eps >= 0 and least >= 0 and least + self.eps > 0):
            raise ModelError(f"variance {least} with eps {self.eps}, expected a sum above 0")
        return inputs[0]


@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """Each frame to mean 0 and variance 1, times weight [size] plus bias [size]."""

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5

    def _infer(self, *inputs: Signal) -> Signal:
        for name, vector in self.vectors().items():
            _expect(f"{name} shape", tuple(vector.shape), (_flat(inputs[0]),))
        return inputs[0]


ACTIVATIONS = ("relu", "clipped_relu", "tanh", "sigmoid")


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """Elementwise, `kind` of ACTIVATIONS; clipped_relu is `min(max(x, 0), limit)`.

    A clipped_relu has one `limit` for all channels, or `limits` [channels]; above 0.
    """

    kind: str
    limit: float | None = None
    limits: Tensor | None = None

    def _infer(self, *inputs: Signal) -> Signal:
        if self.kind not in ACTIVATIONS:
            raise ModelError(f"kind is {self.kind!r}, expected one of {', '.join(ACTIVATIONS)}")
        self._check_limit()
        if self.limits is not None:
            _expect("limits shape", tuple(self.limits.shape), (inputs[0].shape[0],))
        return inputs[0]

    def _check_limit(self) -> None:
        if self.limits is not None and self.limit is not None:
            raise ModelError(f"{self.kind} has limit {self.limit} and limits, expected one of them")
        found = self.limit if self.limits is None else float(self.limits.min())
        limited = found is not None and 0 < found < math.inf
        if limited != (self.kind == "clipped_relu") or (found is not None and not limited):
            raise ModelError(
                f"{self.kind} has limit {found}; clipped_relu alone needs one, above 0"
            )


@dataclass(frozen=True, eq=False)
class ContextWindow(Layer):
    """Each frame with `left` frames before and `right` after it, zeros beyond the utterance.

    The output is the frames in the order of time, [(left + 1 + right) * size].
    """

    left: int
    right: int

    def _infer(self, *inputs: Signal) -> Signal:
        if min(self.left, self.right) < 0:
            raise ModelError(f"context is {self.left} left, {self.right} right, expected 0 or more")
        return Signal((_flat(inputs[0]) * (self.left + 1 + self.right),), inputs[0].stride)


@dataclass(frozen=True, eq=False)
class FrameStacking(Layer):
    """`count` frames in one, every `stride` frames; an incomplete stack at the end is dropped."""

    count: int
    stride: int

    def _infer(self, *inputs: Signal) -> Signal:
        if min(self.count, self.stride) < 1:
            raise ModelError(f"stacks {self.count} frames every {self.stride}, expected 1 or more")
        return Signal((_flat(inputs[0]) * self.count,), inputs[0].stride * self.stride)


@dataclass(frozen=True, eq=False)
class Subsample(Layer):
    """Every `factor`-th frame, the first one included."""

    factor: int

    def _infer(self, *inputs: Signal) -> Signal:
        if self.factor < 1:
            raise ModelError(f"factor is {self.factor}, expected 1 or more")
        return Signal(inputs[0].shape, inputs[0].stride * self.factor)


@dataclass(frozen=True, eq=False)
class Unflatten(Layer):
    """(channels * bands,) to (channels, bands)."""

    channels: int

    def _infer(self, *inputs: Signal) -> Signal:
        size = _flat(inputs[0])
        if self.channels < 1 or size % self.channels:
            raise ModelError(f"size {size} does not divide into {self.channels} channels")
        return Signal((self.channels, size // self.channels), inputs[0].stride)


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """(channels, bands) to (channels * bands,), the bands running fastest."""

    def _infer(self, *inputs: Signal) -> Signal:
        return Signal((inputs[0].size,), inputs[0].stride)


def _same_stride(inputs: Sequence[Signal]) -> int:
    strides = [signal.stride for signal in inputs]
    if len(inputs) < 2 or len(set(strides)) != 1:
        raise ModelError(f"needs two or more inputs at one frame rate, found strides {strides}")
    return strides[0]


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """The sum of two or more inputs of one shape (a residual connection)."""

    arity: ClassVar[int | None] = None

    def _infer(self, *inputs: Signal) -> Signal:
        shapes = [signal.shape for signal in inputs]
        if len(set(shapes)) != 1:
            raise ModelError(f"adds inputs of one shape, found {shapes}")
        return Signal(shapes[0], _same_stride(inputs))


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Two or more inputs after each other."""

    arity: ClassVar[int | None] = None

    def _infer(self, *inputs: Signal) -> Signal:
        return Signal((sum(_flat(signal) for signal in inputs),), _same_stride(inputs))


@dataclass(frozen=True, eq=False)
class LogSoftmax(Layer):
    """Logarithm of the softmax over a frame."""

    def _infer(self, *inputs: Signal) -> Signal:
        _flat(inputs[0])
        return inputs[0]

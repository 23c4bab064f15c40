"""What the operators of TensorFlow and of TensorFlow Lite have in common, in PyTorch's terms."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.tape import Tape, Value
from tinyvox.importers.walk import context_of

aten = torch.ops.aten
FRAMES, MORE_FRAMES = 7, 64
"""Frames of an example where the file leaves their number open: at first, and where these are too
few for what the graph joins."""
MAX_MADE = 1 << 24
"""Most values of a tensor that an operator makes."""


@dataclass(frozen=True, eq=False)
class Masks:
    """What a strided slice does with single dimensions, one bit each."""

    begin: int = 0
    end: int = 0
    shrink: int = 0


def bounded(shape: Sequence[int]) -> list[int]:
    """The shape of a tensor to make. Raises ImporterError where it is too large."""
    if min(shape, default=0) < 0 or math.prod(shape) > MAX_MADE:
        raise ImporterError(f"makes a tensor of shape {list(shape)}, which is too large")
    return list(shape)


def scalar_first(one: Any, two: Any) -> tuple[Any, Any]:
    """Two operands; a number that comes first has no shape."""
    if isinstance(one, Tensor) and isinstance(two, Value) and one.numel() == 1:
        one = one.reshape(())
    return one, two


def signal_first(one: Any, two: Any) -> tuple[Any, Any]:
    """Two operands in an order in which a constant comes last."""
    return (two, one) if isinstance(one, Tensor) else (one, two)


def difference(tape: Tape, one: Any, two: Any) -> Any:
    """`one - two`."""
    one, two = scalar_first(one, two)
    if isinstance(one, Tensor) and one.numel() == 1 and isinstance(two, Value):
        return tape.apply(aten.rsub.Scalar, two, float(one))
    return tape.apply(aten.sub.Tensor, one, two)


def chosen(condition: Tensor, one: Any, two: Any) -> Any:
    """Where a constant condition chooses between two tensors."""
    if bool(condition.all()):
        return one
    if not bool(condition.any()):
        return two
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.where(condition, one, two)
    raise ImporterError(
        "takes some values from one signal, some from another; expected one of them"
    )


def strided_slice(
    tape: Tape,
    value: Any,
    begin: Sequence[int],
    end: Sequence[int],
    steps: Sequence[int],
    masks: Masks,
) -> Any:
    """A slice of each dimension; those of `masks.shrink` are single steps and dropped."""
    dropped = []
    for dim, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        size = value.shape[dim]
        if masks.shrink >> dim & 1:
            dropped.append(dim)
            value = tape.apply(aten.slice.Tensor, value, dim, *one_step(first, size))
        elif step < 0:
            if step != -1:
                raise ImporterError(f"slices with step {step}, expected -1 or more")
            value = tape.apply(aten.flip.default, value, [dim])
        else:
            start = None if masks.begin >> dim & 1 else first
            stop = None if masks.end >> dim & 1 else last
            value = _sliced(tape, value, dim, slice(start, stop, step))
    return tape.apply(aten.squeeze.dims, value, dropped) if dropped else value


def _sliced(tape: Tape, value: Any, dim: int, part: slice) -> Any:
    if part.step == 0:
        raise ImporterError("slices with step 0")
    if part.indices(value.shape[dim]) == (0, value.shape[dim], 1):
        return value
    return tape.apply(aten.slice.Tensor, value, dim, part.start, part.stop, part.step)


def one_step(index: int, size: int) -> tuple[int, int]:
    """Where a single step of a dimension begins and ends."""
    index = index % size if size else index
    return index, index + 1


def plain_slice(tape: Tape, value: Any, begin: Sequence[int], sizes: Sequence[int]) -> Any:
    """So many steps of each dimension from `begin` on; -1 for all that are left."""
    for dim, (first, count) in enumerate(zip(begin, sizes, strict=True)):
        last = value.shape[dim] if count == -1 else first + count
        value = _sliced(tape, value, dim, slice(first, last, 1))
    return value


def split_sizes(tape: Tape, value: Any, sizes: Sequence[int], dim: int) -> Any:
    """Parts of these sizes along a dimension; one size may be -1."""
    rest = value.shape[dim] - sum(size for size in sizes if size >= 0)
    sizes = [rest if size < 0 else size for size in sizes]
    return tape.apply(aten.split_with_sizes.default, value, sizes, dim)


def padded(tape: Tape, value: Any, amounts: Tensor, filling: float = 0.0) -> Any:
    """Values around all dimensions, [before, after] for each."""
    pairs = [[int(n) for n in pair] for pair in amounts.reshape(-1, 2).tolist()]
    bounded([size + sum(pair) for size, pair in zip(value.shape, pairs, strict=True)])
    flat = [n for pair in reversed(pairs) for n in pair]
    return tape.apply(aten.constant_pad_nd.default, value, flat, filling)


def tiled(tape: Tape, value: Any, repeats: Sequence[int]) -> Any:
    """A tensor repeated along its dimensions."""
    if all(count == 1 for count in repeats):
        return value
    bounded([count * size for count, size in zip(repeats, value.shape, strict=True)])
    return tape.apply(aten.repeat.default, value, list(repeats))


def counted(first: Tensor, last: Tensor, step: Tensor) -> Tensor:
    """Numbers from `first` to before `last`."""
    start, stop, by = float(first), float(last), float(step)
    if by == 0 or not abs((stop - start) / by) <= 1 << 20:
        raise ImporterError(f"counts from {start:g} to {stop:g} by {by:g}")
    return torch.arange(start, stop, by).to(first.dtype)


@dataclass(frozen=True)
class Convolution:
    """How a convolution goes over height and width; with `same`, stride 1 keeps their sizes."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    same: bool

    def apply(self, tape: Tape, source: Any, weight: Tensor, bias: Tensor | None) -> Any:
        """The convolution of [batch, height, width, channels], by a weight as PyTorch has it. Of
        height 1 it is one-dimensional."""
        value = tape.apply(aten.permute.default, source, [0, 3, 1, 2])
        if self.same:
            value = self._padded(tape, value, weight)
        if source.shape[1] == 1 and weight.shape[2] == 1:
            value = tape.apply(aten.squeeze.dim, value, 2)
            value = tape.apply(
                aten.conv1d.default, value, weight.squeeze(2), bias,
                self.stride[1:], [0], self.dilation[1:], self.groups,
            )  # fmt: skip
            value = tape.apply(aten.unsqueeze.default, value, 2)
        else:
            value = tape.apply(
                aten.conv2d.default, value, weight, bias,
                list(self.stride), [0, 0], list(self.dilation), self.groups,
            )  # fmt: skip
        return tape.apply(aten.permute.default, value, [0, 2, 3, 1])

    def _padded(self, tape: Tape, value: Any, weight: Tensor) -> Any:
        """The zeros of padding SAME."""
        amounts = []
        for dim in (3, 2):
            size, step = value.shape[dim], self.stride[dim - 2]
            reach = self.dilation[dim - 2] * (weight.shape[dim] - 1) + 1
            total = max((-(-size // step) - 1) * step + reach - size, 0)
            amounts += [total // 2, total - total // 2]
        return tape.apply(aten.constant_pad_nd.default, value, amounts) if any(amounts) else value


def pooled(
    tape: Tape, source: Any, kind: str, kernel: Sequence[int], stride: Sequence[int], same: bool
) -> Any:
    """The pooling of [batch, height, width, channels], "max" or "mean", which leaves padding out.

    Raises ImporterError for padding SAME of more after than before, but where there is none before.
    """
    value = tape.apply(aten.permute.default, source, [0, 3, 1, 2])
    padding, ceil = [0, 0], False
    for i in range(2 if same else 0):
        size = value.shape[2 + i]
        total = max((-(-size // stride[i]) - 1) * stride[i] + kernel[i] - size, 0)
        if total > 1 and total % 2:
            raise ImporterError(
                f"pads windows of {kernel[i]} by {total // 2} before and {total - total // 2} "
                "after, expected as much; take an odd window, or padding VALID"
            )
        padding[i], ceil = total // 2, ceil or total == 1
    settings = [list(kernel), list(stride), padding]
    if kind == "max":
        value = tape.apply(aten.max_pool2d.default, value, *settings, [1, 1], ceil)
    else:
        value = tape.apply(aten.avg_pool2d.default, value, *settings, ceil, False)
    return tape.apply(aten.permute.default, value, [0, 2, 3, 1])


def place_of(name: str) -> Place:
    """A name for the layer that has a weight of this name: without the parts that name no layer."""
    parts = [part for part in name.split(";")[0].replace(":0", "").split("/") if part]
    while len(parts) > 1 and _COMMON.fullmatch(parts[-1].lower()):
        parts.pop()
    return Place(".".join(parts), is_layer=True)


_COMMON = re.compile(
    r"(weights?|kernel|bias(es)?|transpose|readvariableop|read|matmul|biasadd|concat|tensordot"
    r"|conv[12]d|relu|sigmoid|tanh|softmax|mul|add|split|(un)?stack|strided_slice|rnn|while"
    r"|multi_rnn_cell|cell|\w*(lstm|gru|rnn)_cell|identity|gates|candidate)(_?\d+)?"
)
"""Parts of TensorFlow's names that name no layer."""


def frames_of(shape: Sequence[int]) -> Sequence[int]:
    """The numbers of frames to try for an example of a shape."""
    return (FRAMES, MORE_FRAMES) if -1 in shape[1:] or list(shape[:1]) == [-1] else (FRAMES,)


def example_shape(shape: Sequence[int], frames: int = FRAMES) -> list[int]:
    """A shape with a size wherever the file leaves it open: one utterance, some frames."""
    found = list(shape)
    if found and found[0] == -1 and len(found) > 2:
        found[0] = 1
    frames += frames % 2 + 1 if frames in found else 0
    found = [frames if size == -1 else size for size in found]
    if min(found, default=0) < 1 or math.prod(found) > MAX_MADE:
        raise ImporterError(f"the input has shape {list(shape)}, expected frames of features")
    return found


def example_of(shape: Sequence[int]) -> Tensor:
    """A random input; one of four dimensions holds windows of a signal."""
    seed = torch.Generator().manual_seed(0)
    if len(shape) != 4 or shape[2] < 2:
        return torch.randn(list(shape), generator=seed)
    batch, frames, window, size = shape
    before, after = context_of(window)
    signal = torch.randn(batch, frames, size, generator=seed)
    around = torch.nn.functional.pad(signal, (0, 0, before, after))
    return around.unfold(1, window, 1).transpose(2, 3).contiguous()

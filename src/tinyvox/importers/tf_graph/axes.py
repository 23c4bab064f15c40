"""Operators that move, cut and join dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tf_graph.translation import Context, Translator

aten = torch.ops.aten


def _reshape(c: Context) -> Any:
    shape = c.numbers(1)
    return c.given(0) if list(c.given(0).shape) == shape else _reshaped(c, shape)


def _reshaped(c: Context, shape: list[int]) -> Any:
    return c.tape.apply(aten.reshape.default, c.given(0), shape)


def _squeeze(c: Context) -> Any:
    value = c.given(0)
    dims = c.attribute("squeeze_dims").wholes or c.attribute("axis").wholes
    dims = dims or [i for i, size in enumerate(value.shape) if size == 1]
    return c.tape.apply(aten.squeeze.dims, value, dims)


def _expand_dims(c: Context) -> Any:
    return c.tape.apply(aten.unsqueeze.default, c.given(0), c.number(1))


def _transpose(c: Context) -> Any:
    return c.tape.apply(aten.permute.default, c.given(0), c.numbers(1))


def _strided_slice(c: Context) -> Any:
    """A slice of each dimension named, with new dimensions of size 1 among them."""
    value = c.given(0)
    names = ("begin_mask", "end_mask", "shrink_axis_mask", "new_axis_mask", "ellipsis_mask")
    begin_mask, end_mask, shrink, new, ellipsis = (c.attribute(n).whole for n in names)
    begin, end, steps = c.numbers(1), c.numbers(2), c.numbers(3)
    if ellipsis or max(map(len, (begin, end, steps))) > 8:
        return _with_ellipsis(c, ellipsis, new, shrink)
    for dim in range(len(begin)):
        if new >> dim & 1:
            value = c.tape.apply(aten.unsqueeze.default, value, dim)
    masks = shared.Masks(begin_mask | new, end_mask | new, shrink & ~new)
    steps = [1 if new >> i & 1 else step for i, step in enumerate(steps)]
    return shared.strided_slice(c.tape, value, begin, end, steps, masks)


def _with_ellipsis(c: Context, ellipsis: int, new: int, shrink: int) -> Any:
    """`x[..., newaxis]` and `x[..., a:b]`: an ellipsis, then one thing."""
    begin, end, steps = c.numbers(1), c.numbers(2), c.numbers(3)
    if ellipsis != 1 or len(begin) != 2 or shrink:
        raise ImporterError("slices with an ellipsis in the middle, expected plain slices")
    if new == 2:
        return c.tape.apply(aten.unsqueeze.default, c.given(0), -1)
    masks = (c.attribute(name).whole >> 1 & 1 for name in ("begin_mask", "end_mask"))
    start, stop = (None if m else n for m, n in zip(masks, (begin[1], end[1]), strict=True))
    return c.tape.apply(aten.slice.Tensor, c.given(0), -1, start, stop, steps[1])


def _slice(c: Context) -> Any:
    return shared.plain_slice(c.tape, c.given(0), c.numbers(1), c.numbers(2))


def _split(c: Context) -> Any:
    count, value, dim = c.attribute("num_split").whole, c.given(1), c.number(0)
    if count < 1 or value.shape[dim] % count:
        raise ImporterError(f"splits {list(value.shape)} in {count} parts along {dim}")
    return tuple(c.tape.apply(aten.split.Tensor, value, value.shape[dim] // count, dim))


def _split_sizes(c: Context) -> Any:
    return tuple(shared.split_sizes(c.tape, c.given(0), c.numbers(1), c.number(2)))


def _unpack(c: Context) -> Any:
    return tuple(c.tape.apply(aten.unbind.int, c.given(0), c.attribute("axis").whole))


def _pack(c: Context) -> Any:
    return c.tape.apply(aten.stack.default, list(c.inputs), c.attribute("axis").whole)


def _joined(axis: int) -> Translator:
    """Tensors joined along the dimension that input `axis` names."""

    def translate(c: Context) -> Any:
        dim = c.number(axis)
        parts = c.inputs[:-1] if axis == -1 else c.inputs[1:]
        there = [p for p in parts if not (isinstance(p, Tensor) and p.numel() == 0)]
        if len(there) == 1:
            return there[0]
        return c.tape.apply(aten.cat.default, there or list(parts), dim)

    return translate


def _gather(c: Context) -> Any:
    value, indices = c.given(0), c.constant(1)
    axis = c.number(2) if len(c.inputs) > 2 else 0
    if isinstance(value, Tensor):
        axis %= max(value.ndim, 1)
        shape = [*value.shape[:axis], *indices.shape, *value.shape[axis + 1 :]]
        shared.bounded(shape)
        return c.tape.apply(aten.index_select.default, value, axis, indices.flatten()).reshape(
            shape
        )
    if indices.numel() != 1:
        raise ImporterError(f"takes {indices.numel()} steps of a signal, expected one")
    index = int(indices) % max(value.shape[axis], 1)
    if indices.ndim == 0:
        return c.tape.apply(aten.select.int, value, axis, index)
    return c.tape.apply(aten.slice.Tensor, value, axis, index, index + 1)


def _gather_nd(c: Context) -> Any:
    """Single steps of the first dimensions, one set of them."""
    value, indices = c.given(0), c.constant(1)
    if indices.ndim < 1 or indices.numel() != indices.shape[-1]:
        raise ImporterError("takes several steps of a tensor, expected one")
    for index in indices.flatten().tolist():
        value = c.tape.apply(aten.select.int, value, 0, int(index))
    shape = [*indices.shape[:-1], *value.shape]
    return c.tape.apply(aten.reshape.default, value, shape)


def _pad(c: Context) -> Any:
    value = float(c.constant(2)) if len(c.inputs) > 2 else 0.0
    return shared.padded(c.tape, c.given(0), c.constant(1), value)


def _reverse(c: Context) -> Any:
    return c.tape.apply(aten.flip.default, c.given(0), c.numbers(1))


def _reverse_sequences(c: Context) -> Any:
    """Each utterance of a batch reversed, where all are as long as the longest."""
    value, dim = c.given(0), c.attribute("seq_dim").whole
    if not 0 <= dim < len(value.shape) or any(n != value.shape[dim] for n in c.numbers(1)):
        raise ImporterError(f"reverses {c.numbers(1)} frames of each utterance, expected all")
    return c.tape.apply(aten.flip.default, value, [dim])


def _broadcast_to(c: Context) -> Any:
    return c.tape.apply(aten.expand.default, c.given(0), shared.bounded(c.numbers(1)))


def _tile(c: Context) -> Any:
    return shared.tiled(c.tape, c.given(0), c.numbers(1))


AXES: dict[str, Translator] = {
    "BroadcastTo": _broadcast_to,
    "Concat": _joined(0),
    "ConcatV2": _joined(-1),
    "ExpandDims": _expand_dims,
    "Gather": _gather,
    "GatherNd": _gather_nd,
    "GatherV2": _gather,
    "Pack": _pack,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequences,
    "ReverseV2": _reverse,
    "Slice": _slice,
    "Split": _split,
    "SplitV": _split_sizes,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unpack": _unpack,
}
"""What translates each of them, by its name."""

"""Operators that move, cut, join and pad axes, and the rows that a loop fills."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tape import Value
from tinyvox.importers.tflite.constants import bounded
from tinyvox.importers.tflite.translation import Context, Rows, Translator

aten = torch.ops.aten


def _reshape(c: Context) -> Any:
    value = c.given(0)
    shape = c.numbers(1) if len(c.inputs) > 1 and c.inputs[1] is not None else None
    if shape is None:
        shape = [int(n) for n in c.options("ReshapeOptions").NewShapeAsNumpy()]
    return c.tape.apply(aten.reshape.default, value, shape)


def _squeeze(c: Context) -> Any:
    value = c.given(0)
    dims = c.options("SqueezeOptions").SqueezeDimsAsNumpy()
    chosen = [int(d) for d in dims] if not isinstance(dims, int) else []
    chosen = chosen or [i for i, size in enumerate(value.shape) if size == 1]
    return c.tape.apply(aten.squeeze.dims, value, chosen)


def _expand_dims(c: Context) -> Any:
    return c.tape.apply(aten.unsqueeze.default, c.given(0), c.numbers(1)[0])


def _transpose(c: Context) -> Any:
    return c.tape.apply(aten.permute.default, c.given(0), c.numbers(1))


def _strided_slice(c: Context) -> Any:
    value, options = c.given(0), c.options("StridedSliceOptions")
    if options.EllipsisMask() or options.NewAxisMask():
        raise ImporterError("slices with an ellipsis or a new axis, expected plain slices")
    begin, end, steps = c.numbers(1), c.numbers(2), c.numbers(3)
    dropped = []
    for dim, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        if options.ShrinkAxisMask() >> dim & 1:
            dropped.append(dim)
            value = c.tape.apply(aten.slice.Tensor, value, dim, *_one(first, value.shape[dim]))
            continue
        if step == 0:
            raise ImporterError("slices with step 0")
        if step < 0:
            value = _reversed(c, value, dim, step)
            continue
        start = None if options.BeginMask() >> dim & 1 else first
        stop = None if options.EndMask() >> dim & 1 else last
        if slice(start, stop, step).indices(value.shape[dim]) != (0, value.shape[dim], 1):
            value = c.tape.apply(aten.slice.Tensor, value, dim, start, stop, step)
    return c.tape.apply(aten.squeeze.dims, value, dropped) if dropped else value


def _one(index: int, size: int) -> tuple[int, int]:
    index = index % size if size else index
    return index, index + 1


def _reversed(c: Context, value: Any, dim: int, step: int) -> Any:
    if step != -1:
        raise ImporterError(f"slices with step {step}, expected -1 or more")
    return c.tape.apply(aten.flip.default, value, [dim])


def _slice(c: Context) -> Any:
    value, begin, size = c.given(0), c.numbers(1), c.numbers(2)
    if isinstance(value, Rows):
        last = None if size[0] == -1 else begin[0] + size[0]
        return Rows(value.parts[begin[0] : last])
    for dim, (first, count) in enumerate(zip(begin, size, strict=True)):
        last = value.shape[dim] if count == -1 else first + count
        if (first, last) != (0, value.shape[dim]):
            value = c.tape.apply(aten.slice.Tensor, value, dim, first, last, 1)
    return value


def _split(c: Context) -> Any:
    count = int(c.options("SplitOptions").NumSplits())
    value, dim = c.given(1), c.numbers(0)[0]
    return c.tape.apply(aten.split.Tensor, value, value.shape[dim] // max(count, 1), dim)


def _split_sizes(c: Context) -> Any:
    sizes, dim, value = c.numbers(1), c.numbers(2)[0], c.given(0)
    rest = value.shape[dim] - sum(size for size in sizes if size >= 0)
    sizes = [rest if size < 0 else size for size in sizes]
    return c.tape.apply(aten.split_with_sizes.default, value, sizes, dim)


def _unpack(c: Context) -> Any:
    return tuple(c.tape.apply(aten.unbind.int, c.given(0), c.options("UnpackOptions").Axis()))


def _pack(c: Context) -> Any:
    return c.tape.apply(aten.stack.default, list(c.inputs), c.options("PackOptions").Axis())


def _concatenate(c: Context) -> Any:
    options, parts = c.options("ConcatenationOptions"), list(c.inputs)
    known = {Rows: 0, Tensor: 0, Value: 0}
    for part in parts:
        known[type(part)] = 1
    if options.Axis() == 0 and (known[Rows] or (known[Tensor] and known[Value])):
        return Rows(tuple(row for part in parts for row in _rows(c, part)))
    whole = [_whole(c, part) for part in parts if not _is_empty(part)]
    value = c.tape.apply(aten.cat.default, whole, options.Axis())
    return c.activated(value, options.FusedActivationFunction())


def _is_empty(value: Any) -> bool:
    return isinstance(value, Rows) and not value.parts


def _whole(c: Context, value: Any) -> Any:
    return c.tape.apply(aten.cat.default, list(value.parts)) if isinstance(value, Rows) else value


def _rows(c: Context, value: Any) -> tuple[Any, ...]:
    """A tensor row by row."""
    if isinstance(value, Rows):
        return value.parts
    if value.shape[0] == 0:
        return ()
    return tuple(c.tape.apply(aten.split.Tensor, value, 1, 0)) if value.shape[0] != 1 else (value,)


def _update(c: Context) -> Any:
    """One row of a tensor replaced."""
    target, row, start = c.given(0), _whole(c, c.given(1)), c.numbers(2)
    parts = list(_rows(c, target))
    if any(start[1:]) or row.shape[0] != 1 or not 0 <= start[0] < len(parts):
        raise ImporterError(f"changes {list(row.shape)} at {start}, expected one whole row")
    parts[start[0]] = row
    return Rows(tuple(parts))


def _gather(c: Context) -> Any:
    options, value, indices = c.options("GatherOptions"), c.given(0), c.constant(1)
    if indices.numel() != 1 or options.BatchDims():
        value = _whole(c, value)
        if isinstance(value, Tensor) and not options.BatchDims():
            return torch.index_select(value, options.Axis(), indices.flatten()).reshape(
                *value.shape[: options.Axis()], *indices.shape, *value.shape[options.Axis() + 1 :]
            )
        raise ImporterError(f"takes {indices.numel()} steps of a signal, expected one")
    index = int(indices)
    if isinstance(value, Rows) and options.Axis() == 0:
        picked = value.parts[index]
        return c.tape.apply(aten.squeeze.dim, picked, 0) if indices.ndim == 0 else picked
    value = _whole(c, value)
    if indices.ndim == 0:
        return c.tape.apply(aten.select.int, value, options.Axis(), index)
    return c.tape.apply(
        aten.slice.Tensor, value, options.Axis(), *_one(index, value.shape[options.Axis()])
    )


def _pad(c: Context) -> Any:
    amounts = c.constant(1).reshape(-1, 2).tolist()
    flat = [int(n) for pair in reversed(amounts) for n in pair]
    value = float(c.constant(2)) if len(c.inputs) > 2 else 0.0
    return c.tape.apply(aten.constant_pad_nd.default, c.given(0), flat, value)


def _reverse(c: Context) -> Any:
    return c.tape.apply(aten.flip.default, c.given(0), c.numbers(1))


def _broadcast_to(c: Context) -> Any:
    return c.tape.apply(aten.expand.default, c.given(0), bounded(c.numbers(1)))


def _tile(c: Context) -> Any:
    value, repeats = c.given(0), c.numbers(1)
    if all(count == 1 for count in repeats):
        return value
    shape = [count * size for count, size in zip(repeats, value.shape, strict=True)]
    bounded(shape)
    return c.tape.apply(aten.repeat.default, value, repeats)


AXES: dict[str, Translator] = {
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenate,
    "DYNAMIC_UPDATE_SLICE": _update,
    "EXPAND_DIMS": _expand_dims,
    "GATHER": _gather,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_sizes,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
    "ZEROS_LIKE": lambda c: torch.zeros(list(_whole(c, c.given(0)).shape)),
}
"""What translates each of them, by its name."""

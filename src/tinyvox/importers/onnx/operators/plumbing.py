"""ONNX operators that move values, and those on shapes."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.onnx.file import tensor
from tinyvox.importers.onnx.operation import Given, Operation, aten, dimension, is_float, number
from tinyvox.importers.tape import Value

Translator = Callable[[Operation], Given | Sequence[Given | None]]
"""What an operator gives: one output or several; None stands for one that nothing may use."""

_FLOAT_TYPES = (1, 10, 11, 16, 17, 18, 19, 20)
_INTEGER_TYPES = (2, 3, 4, 5, 6, 7, 12, 13, 21, 22)
_BOOL = 9
"""Numbers of types in ONNX files."""


def unchanged(op: Operation) -> Given:
    """The first input."""
    return op.input(0)


def dropout(op: Operation) -> Sequence[Given]:
    """`Dropout`, which does nothing when a model runs."""
    if op.given(2) and bool(op.constant(2).any()):
        raise ImporterError("is in training mode; export the model in evaluation mode")
    given = op.input(0)
    return given, torch.ones(tuple(given.shape), dtype=torch.bool) if op.outputs > 1 else given


def constant(op: Operation) -> Tensor:
    """`Constant`, in any of its forms."""
    if "value" in op.attributes:
        return tensor(op.attributes["value"])
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in op.attributes:
            kind = torch.float32 if "float" in name else torch.int64
            return torch.tensor(op.attributes[name], dtype=kind)
    raise ImporterError(f"holds {', '.join(op.attributes) or 'nothing'}, expected numbers")


def constant_of_shape(op: Operation) -> Given:
    """`ConstantOfShape`."""
    value = tensor(op.attributes["value"]) if "value" in op.attributes else torch.zeros(1)
    return op.apply(aten.full.default, op.numbers(0), value.flatten()[0].item(), dtype=value.dtype)


def shape(op: Operation) -> Tensor:
    """`Shape(start, end)`."""
    sizes = list(op.input(0).shape)
    return torch.tensor(sizes[op.get("start", 0) : op.get("end", len(sizes))], dtype=torch.int64)


def size(op: Operation) -> Tensor:
    """`Size`."""
    return torch.tensor(math.prod(op.input(0).shape))


def cast(op: Operation) -> Given:
    """`Cast`: all floats are float32, all whole numbers int64."""
    to, given = op.get("to", 0), op.input(0)
    if to in _FLOAT_TYPES and is_float(given):
        return given
    types = {
        **dict.fromkeys(_FLOAT_TYPES, torch.float32),
        **dict.fromkeys(_INTEGER_TYPES, torch.int64),
        _BOOL: torch.bool,
    }
    if to not in types:
        raise ImporterError(f"converts to type {to}, expected floats, whole numbers or bool")
    return op.apply(aten._to_copy.default, given, dtype=types[to])


def cast_like(op: Operation) -> Given:
    """`CastLike`."""
    given, like = op.input(0), op.input(1)
    kind = (like.tensor if isinstance(like, Value) else like).dtype
    if is_float(given) and is_float(like):
        return given
    return op.apply(aten._to_copy.default, given, dtype=kind)


def squeeze(op: Operation) -> Given:
    """`Squeeze(axes)`."""
    given, axes = op.input(0), op.axes(1)
    if axes is None:
        return op.reshape(given, [n for n in given.shape if n != 1])
    dims = {dimension(given, axis) for axis in axes}
    odd = [dim for dim in dims if given.shape[dim] != 1]
    if odd:
        raise ImporterError(f"drops dimension {odd[0]} of {list(given.shape)}, expected size 1")
    return op.reshape(given, [n for i, n in enumerate(given.shape) if i not in dims])


def unsqueeze(op: Operation) -> Given:
    """`Unsqueeze(axes)`; the axes count in the result."""
    given, axes = op.input(0), op.axes(1) or []
    rank = len(given.shape) + len(axes)
    if any(not -rank <= axis < rank for axis in axes) or len({a % rank for a in axes}) < len(axes):
        raise ImporterError(f"adds dimensions {axes} to {list(given.shape)}")
    left, added = list(given.shape), {axis % rank for axis in axes}
    return op.reshape(given, [1 if i in added else left.pop(0) for i in range(rank)])


def reshape(op: Operation) -> Given:
    """`Reshape(shape, allowzero)`."""
    given = op.input(0)
    sizes = op.numbers(1) if op.given(1) else op.integers("shape") or []
    if not op.get("allowzero", 0):
        sizes = [op.size(given, i) if n == 0 else n for i, n in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(given.shape) // max(known, 1)
    if min(sizes, default=0) < 0 or math.prod(sizes) != math.prod(given.shape):
        raise ImporterError(f"makes {list(given.shape)} into {sizes}, another number of values")
    return op.reshape(given, sizes)


def flatten(op: Operation) -> Given:
    """`Flatten(axis)`: two dimensions."""
    given, axis = op.input(0), op.get("axis", 1)
    axis = axis + len(given.shape) if axis < 0 else axis
    sizes = list(given.shape)
    return op.reshape(given, [math.prod(sizes[:axis]), math.prod(sizes[axis:])])


def transpose(op: Operation) -> Given:
    """`Transpose(perm)`."""
    given = op.input(0)
    order = op.integers("perm") or list(range(len(given.shape)))[::-1]
    if order == list(range(len(given.shape))):
        return given
    return op.apply(aten.permute.default, given, order)


def cut(op: Operation) -> Given:
    """`Slice(starts, ends, axes, steps)`."""
    given = op.input(0)
    if op.given(1):
        starts, ends = op.numbers(1), op.numbers(2)
        axes = op.numbers(3) if op.given(3) else None
        steps = op.numbers(4) if op.given(4) else None
    else:
        starts, ends = op.integers("starts") or [], op.integers("ends") or []
        axes, steps = op.integers("axes"), None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise ImporterError(f"cuts from {starts} to {ends} along {axes} by {steps}")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        given = part(op, given, axis, slice(start, end, step))
    return given


def part(op: Operation, given: Given, axis: int, which: slice) -> Given:
    """A part of a dimension; backwards where the step is negative."""
    axis = dimension(given, axis)
    places = range(*which.indices(op.size(given, axis)))
    back = places.step < 0 and len(places) > 0
    first, last, step = (
        (places[-1], places[0], -places.step)
        if back
        else (places.start, max(places.stop, places.start) - 1, abs(places.step))
    )
    if which.start == -1 and len(places) == 1:  # the last one, however many there are
        return op.apply(aten.slice.Tensor, given, axis, -1, sys.maxsize, 1)
    if len(places) < op.size(given, axis):
        given = op.apply(aten.slice.Tensor, given, axis, first, last + 1, step)
    return op.apply(aten.flip.default, given, [axis]) if back else given


def split(op: Operation) -> Sequence[Given]:
    """`Split(split, num_outputs)`."""
    given, axis = op.input(0), op.get("axis", 0)
    total = op.size(given, axis)
    sizes = op.numbers(1) if op.given(1) else op.integers("split")
    if sizes is None:
        each = -(-total // max(op.get("num_outputs", op.outputs), 1))
        sizes = [min(each, total - start) for start in range(0, total, max(each, 1))]
    if min(sizes, default=0) < 0 or sum(sizes) != total:
        raise ImporterError(f"splits {total} into {sizes}")
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [part(op, given, axis, slice(end - n, end)) for end, n in zip(ends, sizes, strict=True)]


def concat(op: Operation) -> Given:
    """`Concat(axis)`."""
    parts = [op.input(i) for i in range(len(op.inputs))]
    axis = dimension(op.input(0), op.get("axis", 1 if op.version < 4 else 0))
    if len(parts) == 1:
        return parts[0]
    return op.apply(aten.cat.default, parts, axis)


def expand(op: Operation) -> Given:
    """`Expand(shape)`; sizes of 1 stay as they are."""
    given, sizes = op.input(0), op.numbers(1)
    own = [1] * (len(sizes) - len(given.shape)) + list(given.shape)
    sizes = [1] * (len(own) - len(sizes)) + sizes
    found = [mine if size == 1 else size for mine, size in zip(own, sizes, strict=True)]
    given = op.reshape(given, own)
    return given if own == found else op.apply(aten.expand.default, given, found)


def tile(op: Operation) -> Given:
    """`Tile(repeats)`."""
    given, repeats = op.input(0), op.numbers(1)
    if all(count == 1 for count in repeats):
        return given
    return op.apply(aten.repeat.default, given, repeats)


def pad(op: Operation) -> Given:
    """`Pad(pads, value, axes, mode)`."""
    given, mode = op.input(0), op.get("mode", b"constant").decode(errors="replace")
    pads = op.numbers(1) if op.given(1) else op.integers("pads") or op.integers("paddings") or []
    value = number(op.constant(2)) if op.given(2) else float(op.get("value", 0.0))
    axes = op.numbers(3) if op.given(3) else list(range(len(given.shape)))
    if len(pads) != 2 * len(axes):
        raise ImporterError(f"pads by {pads} along {axes}")
    amounts = {
        dimension(given, axis): (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)
    }
    for axis, (before, after) in amounts.items():
        if before < 0 or after < 0:
            end = op.size(given, axis) + min(after, 0)
            given = part(op, given, axis, slice(max(-before, 0), end))
    amounts = {axis: (max(b, 0), max(a, 0)) for axis, (b, a) in amounts.items()}
    return _padded(op, given, amounts, mode, value)


def _padded(
    op: Operation, given: Given, amounts: dict[int, tuple[int, int]], mode: str, value: float | None
) -> Given:
    dims = [axis for axis, amount in amounts.items() if any(amount)]
    if not dims:
        return given
    if mode == "constant":
        flat = [n for axis in range(len(given.shape))[::-1] for n in amounts.get(axis, (0, 0))]
        return op.apply(aten.constant_pad_nd.default, given, flat, value or 0)
    if mode != "reflect" or dims != [len(given.shape) - 1]:
        raise ImporterError(
            f"pads dimensions {dims} in mode {mode}, expected zeros, or reflection of the last one"
        )
    rows = op.reshape(given, [math.prod(given.shape[:-1]), given.shape[-1]])
    found = op.apply(aten.reflection_pad1d.default, rows, list(amounts[dims[0]]))
    return op.reshape(found, [*given.shape[:-1], found.shape[-1]])


def gather(op: Operation) -> Given:
    """`Gather(axis)`, by constant places: of a signal one of them, some in a row, or windows."""
    given, places = op.input(0), op.constant(1)
    axis = dimension(given, op.get("axis", 0))
    count = op.size(given, axis)
    if places.is_floating_point() or bool(((places < -count) | (places >= count)).any()):
        raise ImporterError(f"takes places outside of the {count} of dimension {axis}")
    places = places.long() % max(count, 1)
    if isinstance(given, Tensor):
        found = op.apply(aten.index_select.default, given, axis, places.flatten())
        return op.reshape(found, [*given.shape[:axis], *places.shape, *given.shape[axis + 1 :]])
    if places.ndim == 0:
        return op.apply(aten.select.int, given, axis, int(places))
    if places.ndim == 2 and places.numel():
        return _windows(op, given, axis, places)
    which = [int(place) for place in places.flatten()]
    steps = {b - a for a, b in itertools.pairwise(which)} or {1}
    if places.ndim != 1 or len(steps) != 1 or not which or 0 in steps:
        raise ImporterError(f"takes places {which[:8]} of dimension {axis}, expected some in a row")
    (step,) = steps
    end = which[-1] + (1 if step > 0 else -1)
    return part(op, given, axis, slice(which[0], end if end >= 0 else None, step))


def _windows(op: Operation, given: Given, axis: int, places: Tensor) -> Given:
    """Windows [number, size] of a dimension, each some steps after the one before."""
    step = int(places[1, 0] - places[0, 0]) if len(places) > 1 else 1
    starts = torch.arange(len(places)) * step
    if step < 1 or not torch.equal(places, starts[:, None] + torch.arange(places.shape[1])):
        raise ImporterError(f"takes places {places.flatten()[:8].tolist()}, expected windows")
    given = part(op, given, axis, slice(0, int(places[-1, -1]) + 1))
    found = op.apply(aten.unfold.default, given, axis, places.shape[1], step)
    dims = list(range(len(found.shape) - 1))
    dims.insert(axis + 1, len(dims))
    return op.apply(aten.permute.default, found, dims)


def where(op: Operation) -> Given:
    """`Where`, by a constant that is the same everywhere, or on constants."""
    condition, one, other = op.input(0), op.input(1), op.input(2)
    if isinstance(condition, Tensor) and condition.numel():
        chosen = one if bool(condition.all()) else other if not bool(condition.any()) else None
        if isinstance(chosen, Value):
            shapes = (tuple(each.shape) for each in (condition, one, other))
            if tuple(chosen.shape) == np.broadcast_shapes(*shapes):
                return chosen
    return op.apply(aten.where.self, condition, one, other)


def sequence(op: Operation) -> Given:
    """`Range(start, limit, delta)`."""
    ends = [op.constant(i) for i in range(3)]
    start, limit, step = (each.flatten()[0].item() for each in ends)
    kind = torch.float32 if ends[0].is_floating_point() else torch.int64
    return op.apply(aten.arange.start_step, start, limit, step, dtype=kind)


PLUMBING: dict[str, Translator] = {
    **dict.fromkeys(("Identity", "Optional", "OptionalGetElement"), unchanged),
    "Dropout": dropout,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Shape": shape,
    "Size": size,
    "Cast": cast,
    "CastLike": cast_like,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Slice": cut,
    "Split": split,
    "Concat": concat,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "Gather": gather,
    "Where": where,
    "Range": sequence,
}
"""What translates each operator that moves values, by its name."""

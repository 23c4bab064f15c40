"""Whether steps at the frames of an utterance do the same, and in which order the frames come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tinyvox.importers.rolling.affine import Sources, as_vector
from tinyvox.importers.rolling.elementwise import is_zero
from tinyvox.importers.tape import Step, Value

EACH_FRAME = frozenset(
    "relu tanh sigmoid silu gelu elu leaky_relu hardsigmoid hardswish clamp clamp_min clamp_max "
    "hardtanh relu6 minimum maximum neg embedding linear addmm mm matmul add sub rsub mul div "
    "layer_norm".split()
)
"""Operators that do the same to each frame, along the last dimension."""
_ARITHMETIC = frozenset(("add", "sub", "rsub", "mul", "div", "minimum", "maximum"))


@dataclass(frozen=True)
class Frames:
    """Values at all frames as one new value [batch, frames, size]; `reverse`: the last is first."""

    value: Value
    reverse: bool = False


def known_values(values: Sequence[Any]) -> list[Value]:
    """The values among these."""
    return [value for value in values if isinstance(value, Value)]


def completed(indices: list[int], count: int) -> list[int]:
    """The indices of frames with that of the first, where it is missing."""
    if len(indices) == count or len(indices) < 2:
        return indices
    return [2 * indices[0] - indices[1], *indices]


def keeps_zero(step: Step) -> bool:
    """Whether an operator gives 0 where its only value is 0."""
    return step.operator in ("mul", "neg") and sum(1 for _ in step.inputs()) == 1


def alike_from_zero(first: Step, other: Step) -> bool:
    """Whether a first step does the same as others, where it may have 0 in place of a value."""
    if first.operator != other.operator or first.arguments.keys() != other.arguments.keys():
        return False
    pairs = ((first.arguments[name], other.arguments[name]) for name in other.arguments)
    return all(same(a, b) or (isinstance(b, Value) and is_zero(a)) for a, b in pairs)


def spread(given: object, step: Step) -> object:
    """A constant of a step of [batch, size], for frames [batch, time, size]."""
    if step.operator not in _ARITHMETIC or not isinstance(given, torch.Tensor) or given.ndim < 2:
        return given
    vector = as_vector(given, step.results[0].shape[-1])
    return given if vector is None else vector.clone()


def alike(one: Step, other: Step) -> bool:
    """Whether two steps do the same to other values."""
    if one.operator != other.operator or one.arguments.keys() != other.arguments.keys():
        return False
    pairs = ((one.arguments[name], other.arguments[name]) for name in one.arguments)
    return all(same(a, b) for a, b in pairs)


def same(one: object, other: object) -> bool:
    """Whether both are values, or equal constants."""
    if isinstance(one, Value) or isinstance(other, Value):
        return isinstance(one, Value) and isinstance(other, Value)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one is other or (one.shape == other.shape and torch.equal(one, other))
    return bool(one == other)


def direction(indices: list[int], count: int) -> bool | None:
    """Whether indices run backwards over all of a dimension; None where they run otherwise."""
    if indices == list(range(count)):
        return False
    return True if indices == list(range(count))[::-1] else None


@dataclass(frozen=True)
class Selection:
    """The step `index` of dimension `inner` of a value that has the frames in dimension `dim`."""

    whole: Value
    dim: int
    inner: int
    index: int
    reverse: bool


def selection(sources: Sources, values: Sequence[Any]) -> Selection | None:
    """What selects the same step of each frame, of [frames, batch, size, steps] or with the batch
    before the frames; None where values at all frames are something else."""
    steps = [sources.step(value) for value in values]
    if any(step is None or step.operator != "select" for step in steps):
        return None
    known = [step for step in steps if step is not None]
    first = known[-1]
    cuts = [sources.range_of(step.arguments["self"]) for step in known]
    if cuts[0] is None or not all(alike(step, first) for step in known):
        return None
    whole, dim = cuts[0][:2]
    if any(cut is None or cut[0] is not whole or cut[1] != dim for cut in cuts):
        return None
    order = direction([cut[2] for cut in cuts if cut is not None], whole.shape[dim])
    inner = first.arguments["dim"] % (len(whole.shape) - 1)
    if order is None or len(whole.shape) != 4 or dim > 1 or inner == 0:
        return None
    return Selection(whole, dim, inner + 1, first.arguments["index"], order)

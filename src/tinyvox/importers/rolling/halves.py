"""Two signals that a module joins as one batch, computes alike, and takes apart: each by itself.

So are the two directions of a recurrent layer often written whose weights they share: the frames
and the reversed frames, one batch after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.rolling.affine import PARTS, Sources
from tinyvox.importers.tape import Step, Tape, Traced, Value, computed, mapped

_SHAPES = {"view": "size", "reshape": "shape", "_unsafe_view": "size"}
"""The argument with a shape, by operator."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two values as the halves of another: of its dimension `dim`, by turns `inner` steps each."""

    values: tuple[Value, Value]
    whole: Value
    dim: int
    inner: int

    @property
    def before(self) -> int:
        """How many values stand in a row before the first one of the second half."""
        shape = self.whole.shape
        return self.inner * torch.Size(shape[self.dim + 1 :]).numel()

    def half(self, value: Value, sources: Sources) -> Value | None:
        """The half that a part of the whole is, or None."""
        cut = sources.range_of(value)
        size = self.whole.shape[self.dim]
        if cut is None or cut[1] != self.dim or 2 * self.inner != size:
            return None
        places = [(0, self.inner), (self.inner, size)]
        return self.values[places.index(cut[2:])] if cut[2:] in places else None


def parted(traced: Traced) -> Traced:
    """The same with each batch of two signals as the two of them, where nothing mixes them."""
    for join in list(traced.tape.steps):
        if join.operator == "cat" and _are_alike(join.arguments["tensors"]):
            traced = _Parting(traced, join.results[0]).done() or traced
    return traced


def _are_alike(tensors: Sequence[Any]) -> bool:
    """Whether two signals of one shape are joined."""
    shapes = {each.shape for each in tensors if isinstance(each, Value)}
    return len(tensors) == 2 and len(shapes) == 1 and all(isinstance(t, Value) for t in tensors)


class _Parting:
    """A tape on which one join is undone, and every step after it done for both halves."""

    def __init__(self, traced: Traced, joined: Value) -> None:
        self._traced, self._joined = traced, joined
        self._sources = Sources(traced.tape)
        self._pairs: dict[int, _Pair] = {}
        self._taken: dict[int, Value] = {}
        """The half that stands for each part of a pair."""

    def done(self) -> Traced | None:
        """What is traced without the join; None where a step mixes the halves."""
        traced, steps = self._traced, []
        outputs = [traced.output, *traced.others]
        for step in traced.tape.needed(outputs):
            found = self._steps(step)
            if found is None:
                return None
            steps += found
        if not self._taken or any(id(value) in self._pairs for value in outputs):
            return None
        output, *others = (self._taken.get(id(value), value) for value in outputs)
        tape = Tape(steps, traced.tape.inputs)
        return replace(traced, tape=tape, output=output, others=tuple(others))

    def _steps(self, step: Step) -> list[Step] | None:
        """What stands for a step: itself, a step for each half, or nothing where it takes one."""
        pairs = [self._pairs[id(v)] for v in step.inputs() if id(v) in self._pairs]
        if step.results[0] is (whole := self._joined):
            dim = step.arguments["dim"] % len(whole.shape)
            one, two = step.arguments["tensors"]
            self._pairs[id(whole)] = _Pair((one, two), whole, dim, whole.shape[dim] // 2)
            return []
        if not pairs:
            return [replace(step, arguments=mapped(self._now, step.arguments))]
        if step.operator in PARTS and self._take(step, pairs[0]):
            return []
        return self._both(step, pairs[0])

    def _now(self, value: Value) -> Value:
        return self._taken.get(id(value), value)

    def _take(self, step: Step, pair: _Pair) -> bool:
        """Note which halves a step takes."""
        halves = [pair.half(value, self._sources) for value in step.results]
        if None in halves:
            return False
        known = zip(step.results, halves, strict=True)
        self._taken.update((id(value), half) for value, half in known if half is not None)
        return True

    def _both(self, step: Step, pair: _Pair) -> list[Step] | None:
        """A step for each half, where these give the halves of what it gives."""
        made = []
        for place in (0, 1):
            arguments = mapped(functools.partial(self._half, place), step.arguments)
            if step.operator in _SHAPES:
                shape = _halved(step.results[0].shape, pair.before, step.results[0].tensor.numel())
                arguments[_SHAPES[step.operator]] = shape
            try:
                copies = mapped(lambda value: value.tensor.clone(), arguments)
                found = computed(step.target, (), copies)
            except (ImporterError, ModelError):
                return None
            parts = found if isinstance(found, tuple) else (found,)
            made.append(replace(step, arguments=arguments, results=tuple(map(Value, parts))))
        for whole, one, two in zip(step.results, *(each.results for each in made), strict=True):
            paired = _paired(whole, one, two)
            if paired is None:
                return None
            self._pairs[id(whole)] = paired
        return made

    def _half(self, place: int, value: Value) -> Value:
        pair = self._pairs.get(id(value))
        return self._now(value) if pair is None else pair.values[place]


def _halved(shape: Sequence[int], before: int, count: int) -> list[int]:
    """A shape for half of the values, which lie by turns, `before` of each half in a row."""
    halved, inner = list(shape), count
    for dim, size in enumerate(shape):
        inner //= size
        if before % inner == 0 and size % 2 == 0 and before // inner <= size // 2:
            halved[dim] = size // 2
            break
    return halved


def _paired(whole: Value, one: Value, two: Value) -> _Pair | None:
    """Two values as the halves of a third, or None where they are not."""
    dims = [d for d, (a, b) in enumerate(zip(one.shape, whole.shape, strict=False)) if a != b]
    if len(one.shape) != len(whole.shape) or one.shape != two.shape or len(dims) != 1:
        return None
    dim, size = dims[0], one.shape[dims[0]]
    for inner in _divisors(size) if 2 * size == whole.shape[dim] else ():
        if all(_is_half(whole.tensor, v.tensor, dim, inner, p) for p, v in enumerate((one, two))):
            return _Pair((one, two), whole, dim, inner)
    return None


def _divisors(size: int) -> Iterator[int]:
    """The numbers that divide a size, the largest first."""
    return (inner for inner in range(size, 0, -1) if size % inner == 0)


def _is_half(whole: Tensor, half: Tensor, dim: int, inner: int, place: int) -> bool:
    shape = [*whole.shape[:dim], half.shape[dim] // inner, 2, inner, *whole.shape[dim + 1 :]]
    parts = whole.reshape(shape)
    own = parts.select(dim + 1, place).flatten(dim, dim + 1)
    return torch.allclose(own, half, rtol=1e-4, atol=1e-5)

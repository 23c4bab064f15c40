"""Tensors that a module fills in place, part by part: what they hold is joined from the parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tinyvox.importers.tape import Tape, Value, operator_name

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a tensor along one dimension: `tensor[..., start:stop, ...]`, or a single step
    without the dimension."""

    tensor: Tensor
    whole: Tensor
    dim: int
    start: int
    stop: int
    is_step: bool

    @property
    def is_all(self) -> bool:
        """Whether it is the whole tensor, as in `tensor[:]`."""
        return not self.is_step and (self.start, self.stop) == (0, self.whole.shape[self.dim])


@dataclass(eq=False)
class _Filled:
    """A tensor that is being filled: what it held before, and the parts since then."""

    tensor: Tensor
    before: Value | Tensor
    dim: int
    parts: dict[int, tuple[int, Value | Tensor]] = field(default_factory=dict)
    """For the first step of each part, its end and its values, with the dimension."""

    def fits(self, part: Part) -> bool:
        """Whether a part lies beside the others, or on one of them."""
        known = self.parts.get(part.start)
        if known is not None:
            return known[0] == part.stop
        return all(
            part.stop <= first or part.start >= known[0] for first, known in self.parts.items()
        )


def is_part(func: OpOverload) -> bool:
    """Whether an operator gives a part of a tensor along one dimension."""
    return operator_name(func) in ("select", "slice")


class Writes:
    """The tensors that are being filled, and the parts of them that the module has."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._parts: dict[int, Part] = {}
        self._filled: dict[int, _Filled] = {}

    def note(self, func: OpOverload, args: tuple[Any, ...], found: Any) -> None:
        """Remember a part that an operator gives of a tensor."""
        if not is_part(func) or not isinstance(found, Tensor) or not args[0].ndim:
            return
        is_step = operator_name(func) == "select"
        whole, dim = args[0], (args[1] if len(args) > 1 else 0) % args[0].ndim
        if (of := self._parts.get(id(whole))) is not None:
            if not of.is_all:
                return
            whole = of.whole
        size = whole.shape[dim]
        if is_step:
            start = int(args[2]) % size
            stop = start + 1
        else:
            start, stop, step = slice(*args[2:5]).indices(size)
            if step != 1 or stop <= start:
                return
        self._parts[id(found)] = Part(found, whole, dim, start, stop, is_step)

    def part(self, tensor: Tensor) -> Part | None:
        """What is known of a tensor that is a part of another."""
        return self._parts.get(id(tensor))

    def parts_of(self, whole: Tensor) -> list[Tensor]:
        """The parts that are known of a tensor."""
        return [part.tensor for part in self._parts.values() if part.whole is whole]

    def is_filled(self, tensor: Tensor) -> bool:
        """Whether a tensor is being filled."""
        return id(tensor) in self._filled

    def write(self, part: Part, before: Value | Tensor, values: Value | Tensor) -> bool:
        """Fill a part with values of its shape. False where that cannot be followed.

        `before` is what the tensor held, should this be the first part.
        """
        whole = part.whole
        filled = self._filled.get(id(whole)) or _Filled(whole, before, part.dim)
        if filled.dim != part.dim:
            filled = _Filled(whole, self.joined(whole), part.dim)
        if not filled.fits(part):
            return False
        filled.parts[part.start] = part.stop, self._with_dim(part, values)
        self._filled[id(whole)] = filled
        return True

    def joined(self, tensor: Tensor) -> Value:
        """What a tensor that was filled holds; it is no longer being filled then."""
        filled = self._filled.pop(id(tensor))
        dim, size = filled.dim, tensor.shape[filled.dim]
        pieces: list[Value | Tensor] = []
        at = 0
        for first in [*sorted(filled.parts), size]:
            if at < first:
                pieces.append(self._apply(aten.slice.Tensor, filled.before, dim, at, first))
            if first < size:
                at, values = filled.parts[first]
                pieces.append(values)
        found: Value = self._apply(aten.cat.default, pieces, dim)
        return found

    def taken(self, part: Part, whole: Value) -> Any:
        """What a part holds, of what the tensor holds."""
        if part.is_step:
            return self._apply(aten.select.int, whole, part.dim, part.start)
        return self._apply(aten.slice.Tensor, whole, part.dim, part.start, part.stop)

    def _with_dim(self, part: Part, values: Value | Tensor) -> Value | Tensor:
        return self._apply(aten.unsqueeze.default, values, part.dim) if part.is_step else values

    def _apply(self, target: OpOverload, *args: Any) -> Any:
        return self._tape.apply(target, *args)

"""One step of a recurrent cell, found by the formula of its state.

LSTM: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000 and their peepholes.
GRU: Cho et al. 2014, and the form of cuDNN, whose reset gate multiplies a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.importers.rolling.affine import PARTS, Affine, Sources
from tinyvox.importers.tape import Step, Value

SQUASHING = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid"}
"""Activations of a cell's candidate and output, by operator."""


@dataclass(frozen=True, eq=False)
class CellStep:
    """A cell at one frame: the affine sums of its gates, in PyTorch's order, and its states.

    `before` is the state that leads from step to step: the cell state of an LSTM, the hidden state
    of a GRU or plain cell; `after` is the same one frame later. `output` is the output of the
    units.
    """

    kind: str
    gates: tuple[Affine, ...]
    before: object
    after: Value
    output: Value
    gate: str = "sigmoid"
    activation: str = "tanh"
    reset: Affine | None = None
    """Of a GRU whose reset gate multiplies a product: that product, which sees the state."""
    norm: Step | None = None
    """Of an LSTM: the layer norm of the state of its cell."""
    scale: float = 1.0
    """Of a GRU: the number that its candidate is multiplied by, and so all of its states."""


class Activated(NamedTuple):
    """An activation of a sum, times a number."""

    kind: str
    inner: Affine
    scale: float = 1.0


class Matcher:
    """Finds the steps of cells on a tape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def lstm(self, value: Value) -> CellStep | None:
        """The step of an LSTM whose output is this value: `o * tanh(f * c + i * tanh(g))`."""
        for gate, squashed in self._factors(value):
            out, step = self._gate(gate), self._sources.made_by(squashed, *SQUASHING)
            if out is None or step is None:
                continue
            state = self._sources.root(step.arguments["self"])
            norm = self._sources.made_by(state, "layer_norm")
            if norm is not None:
                state = self._sources.root(norm.arguments["input"])
            found = self._memory(state)
            if found is None:
                continue
            kept, before, added, new = found
            if len({kept.kind, added.kind, out.kind}) == 1 and new.kind == step.operator:
                gates = (added.inner, kept.inner, new.inner, out.inner)
                assert isinstance(state, Value)
                return CellStep("lstm", gates, before, state, value, out.kind, new.kind, norm=norm)
        return None

    def _memory(self, value: object) -> tuple[Activated, object, Activated, Activated] | None:
        """`f * c + i * tanh(g)`: the gate f, the state c, the gate i, the candidate."""
        for one, two in self._terms(value):
            for added, candidate in self._factors(two):
                i, g = self._gate(added), self._squashed(candidate)
                if i is None or g is None:
                    continue
                for kept, state in self._factors(one):
                    f = self._gate(kept)
                    if f is not None and self._squashed(state) is None:
                        return f, self._sources.root(state), i, g
        return None

    def gru(self, value: Value) -> CellStep | None:
        """The step of a GRU whose output is this value: `z * h + (1 - z) * n`; one without a reset
        gate is light."""
        for z, state, new in self._interpolated(value):
            light = self._candidate_of(new)
            if light is not None and _sees(light.inner, state) and _sees(z.inner, state):
                both = (z.inner, light.inner)
                step = CellStep("li_gru", both, state, value, value, z.kind, light.kind)
                return replace(step, scale=light.scale)
            found = self._candidate(new, state)
            if found is not None:
                reset, taken, product = found
                if reset.kind != z.kind:
                    continue
                name = "gru_reset_before" if product is None else "gru"
                gates = (reset.inner, z.inner, taken.inner)
                step = CellStep(name, gates, state, value, value, z.kind, taken.kind, product)
                return replace(step, scale=taken.scale)
        return None

    def plain(self, value: Value) -> CellStep | None:
        """The step of a plain cell whose output is this value: `tanh(W x + U h)`, or of `W x` alone
        where h is zero."""
        found = self._squashed(value)
        if found is None or found.kind == "sigmoid" or not found.inner.parts:
            return None
        inner = found.inner
        own = tuple(self._sources.diagonal(vector, seen) for vector, seen in inner.diagonals)
        inner = replace(inner, parts=inner.parts + own, diagonals=())
        return CellStep(f"rnn_{found.kind}", (inner,), None, value, value)

    def _interpolated(self, value: Value) -> Iterator[tuple[Activated, object, object]]:
        """The forms of `z * h + (1 - z) * n`: z, h and n."""
        for one, two in self._terms(value):
            for gate, h in self._factors(one):
                for rest, n in self._factors(two):
                    if self._is_rest(rest, gate):
                        yield from self._both_ways(gate, h, n)
            for gate, apart in self._factors(two):  # n + z * (h - n)
                step = self._sources.made_by(apart, "sub")
                if step is None or self._sources.root(step.arguments["other"]) is not one:
                    continue
                h = self._sources.root(step.arguments["self"])
                yield from self._both_ways(gate, h, one)

    def _both_ways(
        self, gate: object, one: object, two: object
    ) -> Iterator[tuple[Activated, object, object]]:
        """What the gate multiplies may be the state or the candidate: 1 - sigmoid(a) is
        sigmoid(-a)."""
        z = self._gate(gate)
        if z is None:
            return
        yield z, one, two
        turned = self._sources.scaled(z.inner, -1.0)
        if turned is not None:
            yield Activated(z.kind, turned), two, one

    def _is_rest(self, value: object, gate: object) -> bool:
        """Whether a value is 1 minus a gate."""
        step = self._sources.made_by(value, "rsub", "sub")
        return step is not None and self._sources.is_rest(step, gate)

    def _candidate(
        self, value: object, state: object
    ) -> tuple[Activated, Activated, Affine | None] | None:
        """The reset gate, the candidate, and the product that the gate multiplies."""
        new = self._candidate_of(value)
        if new is None:
            return None
        inner = new.inner
        for one, two in inner.products:  # r * (U h + b)
            for r, product in ((one, two), (two, one)):
                reset, seen = self._gate(r), self._sources.affine(product)
                if reset is not None and seen is not None and len(inner.products) == 1:
                    return reset, new._replace(inner=replace(inner, products=())), seen
        for vector, r in inner.diagonals:  # r * b, where h is zero
            reset = self._gate(r)
            if reset is not None and len(inner.diagonals) == 1 and _is_zero(state):
                seen = Affine(inner.rows, bias=vector)
                return reset, new._replace(inner=replace(inner, diagonals=())), seen
        for part in inner.parts:  # U (r * h)
            for gate, h in self._factors(part.operand):
                reset = self._gate(gate)
                if reset is None or not (h is state or (_is_zero(h) and _is_zero(state))):
                    continue
                parts = [p for p in inner.parts if p is not part]
                if isinstance(h, Value):
                    parts.append(replace(part, operand=h))
                return reset, new._replace(inner=replace(inner, parts=tuple(parts))), None
        return None

    def _gate(self, value: object) -> Activated | None:
        """A gate: a sigmoid of a sum, or a part of such; a hard sigmoid is a clipped line."""
        return self._activated(value, {"sigmoid": "sigmoid", "hardsigmoid": "hardsigmoid"})

    def _squashed(self, value: object) -> Activated | None:
        return self._activated(value, SQUASHING)

    def _candidate_of(self, value: object) -> Activated | None:
        """What a GRU takes in: a squashed sum, or a sum as it is, times a number, as for dropout;
        of a relu it multiplies the sum."""
        found = self._squashed(value)
        for one, two in self._factors(value):
            taken = None if isinstance(two, Value) else self._squashed(one)
            if taken is not None and (number := _number(two)) is not None and number > 0:
                inner = self._sources.scaled(taken.inner, number)
                if taken.kind == "relu" and inner is not None:
                    return taken._replace(inner=inner)
                return taken._replace(scale=number)
        if found is not None or not isinstance(value, Value):
            return found
        inner = self._sources.affine(value)
        return None if inner is None else Activated("identity", inner)

    def _activated(self, value: object, kinds: dict[str, str]) -> Activated | None:
        root = self._sources.root(value)
        step = self._sources.step(root)
        if step is None or not isinstance(root, Value):
            return None
        if step.operator in PARTS:
            cut = self._sources.range_of(root)
            if cut is None or cut[1] != len(cut[0].shape) - 1:
                return None
            whole = self._activated(cut[0], kinds)
            taken = None if whole is None else whole.inner.take(cut[2], cut[3])
            return None if whole is None or taken is None else Activated(whole.kind, taken)
        kind = kinds.get(step.operator)
        if kind is None and "hardsigmoid" in kinds:
            return self._clipped(step)
        inner = None if kind is None else self._sources.affine(step.arguments["self"])
        return None if kind is None or inner is None else Activated(kind, inner)

    def _clipped(self, step: Step) -> Activated | None:
        """`clamp(0.2 x + 0.5, 0, 1)`, the hard sigmoid of Keras 2."""
        limits = (step.arguments.get("min"), step.arguments.get("max"))
        if step.operator != "clamp" or limits != (0, 1):
            return None
        line = self._sources.made_by(step.arguments["self"], "add")
        if line is None or isinstance(line.arguments["other"], Value):
            return None
        slope = self._sources.made_by(line.arguments["self"], "mul")
        if slope is None or isinstance(slope.arguments["other"], Value):
            return None
        offset, factor = _numbers(line.arguments["other"]), _numbers(slope.arguments["other"])
        inner = self._sources.affine(slope.arguments["self"])
        fits = bool(((offset - 0.5).abs() < 1e-6).all() and ((factor - 0.2).abs() < 1e-6).all())
        return Activated("hard_sigmoid_keras", inner) if fits and inner is not None else None

    def _factors(self, value: object) -> Iterator[tuple[object, object]]:
        """The two factors of a product, in both orders."""
        return self._pairs(value, "mul")

    def _terms(self, value: object) -> Iterator[tuple[object, object]]:
        return self._pairs(value, "add")

    def _pairs(self, value: object, operator: str) -> Iterator[tuple[object, object]]:
        step = self._sources.made_by(value, operator)
        if step is not None and step.arguments.get("alpha", 1) == 1:
            one, two = (self._sources.root(step.arguments[n]) for n in ("self", "other"))
            yield one, two
            yield two, one


def _sees(inner: Affine, state: object) -> bool:
    """Whether a sum is of matrices alone, one of which takes the state."""
    parts = [*inner.parts, *(part for norm in inner.norms for part in norm.inner.parts)]
    return not inner.products and any(part.operand is state for part in parts)


def _is_zero(value: object) -> bool:
    """Whether a state is a constant 0, as that before the first frame."""
    return not isinstance(value, Value) and not bool(_numbers(value).any())


def _number(value: object) -> float | None:
    """A constant as the one number that all its values are; None where they differ."""
    values = _numbers(value).flatten()
    same = len(values) > 0 and bool((values == values[0]).all())
    return float(values[0]) if same else None


def _numbers(value: object) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32)

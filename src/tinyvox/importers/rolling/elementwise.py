"""Recurrences of each value by itself, found by their formula: `c = f * c + u`.

The last step of a loop says what the earlier ones are, as all run the same code: the place of the
state in the formula is the same in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.importers.layer_graph import Place
from tinyvox.importers.rolling.affine import Sources, as_vector
from tinyvox.importers.tape import Step, Value


@dataclass(frozen=True, eq=False)
class ElementStep:
    """One step from the state `before` to `after`, by a gate and a new value.

    The gate multiplies the state, or where it is `turned` the new value. Where it `mixes`, one of
    them counts as often as the other does not.
    """

    before: object
    after: Value
    gate: object
    new: object
    mixes: bool = False
    turned: bool = False


@dataclass(frozen=True, eq=False)
class ElementChain:
    """The steps of an utterance in the order in which they run.

    `gates` are the terms of the gate, or inside its sigmoid where there is a `weight` of the state,
    of each step; those of a first step without one are None.
    """

    gates: list[tuple[object, ...] | None]
    news: list[object]
    outputs: list[Value]
    weight: Tensor | None
    mixes: bool
    turned: bool
    place: Place


def find_element_chains(steps: Sequence[Step], sources: Sources) -> Iterator[ElementChain]:
    """The recurrences among these steps, in which nothing but the state depends on the state."""
    finder = _Finder(steps, sources)
    for row in finder.rows():
        chain = finder.chain(row)
        if chain is not None:
            yield chain


class _Finder:
    def __init__(self, steps: Sequence[Step], sources: Sources) -> None:
        self._steps, self._sources = steps, sources

    def rows(self) -> list[list[ElementStep]]:
        """Steps in a row, two or more, each from the state that the one before gives."""
        pending: dict[int, dict[tuple[object, ...], ElementStep]] = {}
        open_rows: dict[tuple[int, tuple[object, ...]], list[ElementStep]] = {}
        found: list[list[ElementStep]] = []
        for step in self._steps:
            if step.operator not in ("add", "lerp"):
                continue
            forms = dict(self._forms(step))
            for form, each in forms.items():
                before = id(each.before)
                row = open_rows.pop((before, form), None)
                if row is None and form in pending.get(before, {}):
                    row = [pending[before][form]]
                    found.append(row)
                if row is not None:
                    row.append(each)
                    open_rows[id(each.after), form] = row
                    break
            else:
                pending[id(step.results[0])] = forms
        return found

    def _forms(self, step: Step) -> Iterator[tuple[tuple[object, ...], ElementStep]]:
        """What a step may be, by where its state stands."""
        value, given = step.results[0], step.arguments
        if step.operator == "lerp":
            one, two, gate = (self._sources.root(given[n]) for n in ("self", "end", "weight"))
            yield ("lerp", 0), ElementStep(one, value, gate, two, True, True)
            yield ("lerp", 1), ElementStep(two, value, gate, one, True)
            return
        if given.get("alpha", 1) != 1:
            return
        terms = [self._sources.root(given[name]) for name in ("self", "other")]
        for i, (one, two) in enumerate((terms, terms[::-1])):
            for j, (gate, state) in enumerate(self._factors(one)):
                yield ("sum", i, j), ElementStep(state, value, gate, two)
                apart = self._sources.made_by(state, "sub")
                if apart is None or apart.arguments.get("alpha", 1) != 1:
                    continue
                plus, minus = (self._sources.root(apart.arguments[n]) for n in ("self", "other"))
                if minus is two:  # u + (c - u) * f, and c + (u - c) * z
                    yield ("apart", i, j), ElementStep(plus, value, gate, two, True)
                    yield ("turned", i, j), ElementStep(two, value, gate, plus, True, True)

    def _factors(self, value: object) -> Iterator[tuple[object, object]]:
        step = self._sources.made_by(value, "mul")
        if step is not None:
            one, two = (self._sources.root(step.arguments[n]) for n in ("self", "other"))
            yield one, two
            yield two, one

    def chain(self, row: list[ElementStep]) -> ElementChain | None:
        """The recurrence of a row; None where it starts from another state than 0, or where its
        gates depend on its states."""
        last, opening = row[-1], row[0].before
        weight = self._weight(last)
        if weight is not None:
            row = [self._mixing(step) for step in row]
            last = row[-1]
        gates: list[tuple[object, ...] | None] = [self._terms(step, weight) for step in row]
        news, outputs = [step.new for step in row], [step.after for step in row]
        if isinstance(opening, Value):
            if weight is not None or last.mixes:
                return None
            first = self._without_zero(opening)
            gates, news, outputs = [None, *gates], [first, *news], [opening, *outputs]
        elif not is_zero(opening):
            return None
        inputs = [*news, *(term for terms in gates if terms for term in terms)]
        if len({(s.mixes, s.turned) for s in row}) != 1 or self._reached(outputs, inputs):
            return None
        step = self._sources.step(last.after)
        place = Place() if step is None else step.place
        return ElementChain(gates, news, outputs, weight, last.mixes, last.turned, place)

    def _without_zero(self, value: Value) -> object:
        """What a value is that is a sum of something and 0."""
        step = self._sources.made_by(value, "add")
        for name, other in (("self", "other"), ("other", "self")) if step is not None else ():
            assert step is not None
            if is_zero(step.arguments[name]) and step.arguments.get("alpha", 1) == 1:
                return self._sources.root(step.arguments[other])
        return value

    def _weight(self, step: ElementStep) -> Tensor | None:
        """What multiplies the state inside the sigmoid of its gate."""
        sigmoid = self._sources.made_by(step.gate, "sigmoid")
        if sigmoid is None:
            return None
        rows = step.after.shape[-1]
        for term in self._summands(sigmoid.arguments["self"]):
            for vector, state in self._factors(term):
                if state is step.before and not isinstance(vector, Value):
                    return as_vector(vector, rows)
        return None

    def _mixing(self, step: ElementStep) -> ElementStep:
        """A step with a gate of its own, `f * c + (1 - f) * u`, as one that mixes."""
        if step.mixes:
            return step
        for rest, new in self._factors(step.new):
            minus = self._sources.made_by(rest, "rsub", "sub")
            if minus is not None and self._sources.is_rest(minus, step.gate):
                return replace(step, new=new, mixes=True)
        return step

    def _terms(self, step: ElementStep, weight: Tensor | None) -> tuple[object, ...]:
        """The terms of a gate; of one that sees the state those inside the sigmoid but that one."""
        sigmoid = self._sources.made_by(step.gate, "sigmoid")
        if weight is None or sigmoid is None:
            return (step.gate,)
        terms = []
        for term in self._summands(sigmoid.arguments["self"]):
            own = any(state is step.before for _, state in self._factors(term))
            if not own and not (is_zero(step.before) and is_zero(term)):
                terms.append(term)
        return tuple(terms)

    def _summands(self, value: object) -> list[object]:
        step = self._sources.made_by(value, "add")
        if step is None or step.arguments.get("alpha", 1) != 1:
            return [self._sources.root(value)]
        return [
            term
            for name in ("self", "other")
            for term in self._summands(self._sources.root(step.arguments[name]))
        ]

    def _reached(self, states: Sequence[Value], inputs: Sequence[object]) -> bool:
        """Whether one of the inputs depends on one of the states, but for a first one that is
        both."""
        reached = set(map(id, states))
        for step in self._steps:
            if any(id(value) in reached for value in step.inputs()):
                reached.update(map(id, step.results))
        return any(id(value) in reached for value in inputs if value is not states[0])


def is_zero(value: object) -> bool:
    """Whether a value is a constant 0."""
    if isinstance(value, Value) or value is None:
        return False
    return not bool(torch.as_tensor(value, dtype=torch.float32).any())

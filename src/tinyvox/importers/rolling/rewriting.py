"""The new tape, on which recurrent layers stand for the cells that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from tinyvox.importers.rolling.affine import PARTS, Sources, as_vector
from tinyvox.importers.rolling.chains import Chain
from tinyvox.importers.rolling.elementwise import ElementChain, is_zero
from tinyvox.importers.rolling.likeness import (
    EACH_FRAME,
    Frames,
    alike,
    alike_from_zero,
    completed,
    direction,
    keeps_zero,
    known_values,
    same,
    selection,
    spread,
)
from tinyvox.importers.tape import Step, Tape, Traced, Value, mapped
from tinyvox.model import ElementwiseRecurrence

aten = torch.ops.aten

_JOINING = frozenset(("cat", "stack"))


class Rewriting:
    """The new tape, and the new value of each old one that was asked for."""

    def __init__(
        self, traced: Traced, sources: Sources, chains: Sequence[Chain | ElementChain]
    ) -> None:
        self.tape = Tape()
        self._sources = sources
        self._known: dict[int, Any] = {
            id(value): self.tape.input(value.name, value.tensor) for value in traced.tape.inputs
        }
        self._place: dict[int, tuple[Chain | ElementChain, int]] = {
            id(value): (chain, i) for chain in chains for i, value in enumerate(chain.outputs)
        }
        self._final = {
            id(chain.final): chain
            for chain in chains
            if isinstance(chain, Chain) and chain.layer.kind == "lstm"
        }
        self._layers: dict[int, tuple[Frames, Value]] = {}
        self._elements: dict[int, Frames | None] = {}

    def resolved(self, value: Value) -> Value:
        """The new value that stands for an old one."""
        waiting = [value]
        while waiting:
            now = waiting[-1]
            missing = [] if id(now) in self._known else self._missing(now)
            if missing:
                waiting += missing
                continue
            if id(now) not in self._known:
                self._make(now)
            waiting.pop()
        found: Value = self._known[id(value)]
        return found

    def _missing(self, value: Value) -> list[Value]:
        """What has to be known before a value that is copied can be made."""
        if id(value) in self._place or id(value) in self._final:
            return []
        step = self._step(value)
        if step.operator in _JOINING and self._joined_frames(step) is not None:
            return []
        return [each for each in step.inputs() if id(each) not in self._known]

    def _step(self, value: Value) -> Step:
        step = self._sources.step(value)
        assert step is not None  # inputs are known from the start
        return step

    def _make(self, value: Value) -> None:
        if id(value) in self._place:
            self._known[id(value)] = self._one_frame(value)
        elif id(value) in self._final:
            _, final = self._run(self._final[id(value)])
            self._known[id(value)] = self.tape.apply(aten.reshape.default, final, value.shape)
        else:
            step = self._step(value)
            self.tape.place, self.tape.where = step.place, step.where
            joined = self._joined_frames(step) if step.operator in _JOINING else None
            if joined is not None:
                self._known[id(value)] = self._laid(joined, step)
            else:
                self._copy(step)

    def _copy(self, step: Step) -> None:
        arguments = mapped(lambda value: self._known[id(value)], step.arguments)
        results = tuple(Value(value.tensor) for value in step.results)
        self.tape.steps.append(replace(step, arguments=arguments, results=results))
        self._known.update((id(o), n) for o, n in zip(step.results, results, strict=True))

    def _one_frame(self, value: Value) -> Value:
        """The output of a layer at one frame."""
        chain, index = self._place[id(value)]
        frames = self._states(chain)
        if frames.reverse:
            index = len(chain.outputs) - 1 - index
        picked: Value = self.tape.apply(aten.select.int, frames.value, 1, index)
        if picked.shape == value.shape:
            return picked
        reshaped: Value = self.tape.apply(aten.reshape.default, picked, list(value.shape))
        return reshaped

    def runs(self, chain: ElementChain) -> bool:
        """Whether the gates and the new values of a recurrence are frames of something."""
        return self._run_elements(chain) is not None

    def _states(self, chain: Chain | ElementChain) -> Frames:
        """The outputs of a chain's layer."""
        if isinstance(chain, Chain):
            return self._run(chain)[0]
        found = self._run_elements(chain)
        assert found is not None  # `runs`
        return found

    def _run_elements(self, chain: ElementChain) -> Frames | None:
        if id(chain) not in self._elements:
            self._elements[id(chain)] = self._made_elements(chain)
        return self._elements[id(chain)]

    def _made_elements(self, chain: ElementChain) -> Frames | None:
        new = self._frames(chain.news)
        gate = self._gate(chain, new) if new is not None else None
        if new is None or gate is None or gate.reverse != new.reverse:
            return None
        step = self._step(chain.outputs[-1])
        self.tape.place, self.tape.where = chain.place, step.where
        kept, value = gate.value, new.value
        if chain.weight is None and chain.mixes:
            rest = self.tape.apply(aten.rsub.Scalar, kept, 1)
            kept, taken = (rest, kept) if chain.turned else (kept, rest)
            value = self.tape.apply(aten.mul.Tensor, taken, value)
        layer = ElementwiseRecurrence(chain.weight, new.reverse)
        return Frames(self.tape.elementwise_recurrence(layer, kept, value), new.reverse)

    def _gate(self, chain: ElementChain, new: Frames) -> Frames | None:
        """The gate of a recurrence at all frames, or what stands inside its sigmoid."""
        known = [terms for terms in chain.gates if terms is not None]
        if len({len(terms) for terms in known}) != 1 or (chain.weight is not None and chain.turned):
            return None
        size = new.value.shape[-1]
        constant, total = torch.zeros(size), None
        for i in range(len(known[0])):
            column = [None if terms is None else terms[i] for terms in chain.gates]
            if not isinstance(column[-1], Value):
                if any(not same(each, column[-1]) for each in column if each is not None):
                    return None
                vector = as_vector(column[-1], size)
                if vector is None:
                    return None
                constant = constant + vector
                continue
            found = self._frames(column)
            if found is None or found.reverse != new.reverse:
                return None
            total = (
                found.value
                if total is None
                else self.tape.apply(aten.add.Tensor, total, found.value)
            )
        if total is None:
            total = self.tape.apply(aten.mul.Tensor, new.value, 0.0)
        if constant.any():
            total = self.tape.apply(aten.add.Tensor, total, constant)
        return Frames(total, new.reverse)

    def _run(self, chain: Chain) -> tuple[Frames, Value]:
        """The outputs of a chain's layer, and its final cell state."""
        if id(chain) not in self._layers:
            columns = [self._gathered(list(each)) for each in zip(*chain.inputs, strict=True)]
            states = [self.resolved(value) for value in chain.states]
            step = self._step(chain.outputs[-1])
            self.tape.place, self.tape.where = chain.place, step.where
            reverse = columns[0].reverse
            values = [column.value for column in columns]
            frames = (
                values[0] if len(values) == 1 else self.tape.apply(aten.cat.default, values, -1)
            )
            layer = chain.layer
            if reverse:
                layer = replace(layer, forward=None, backward=layer.forward)
            outputs, _, final = self.tape.recurrent(layer, frames, states)
            if chain.scale != 1:
                outputs = self.tape.apply(aten.mul.Tensor, outputs, chain.scale)
            self._layers[id(chain)] = Frames(outputs, reverse), final
        return self._layers[id(chain)]

    def _gathered(self, values: list[Value]) -> Frames:
        """Values at all frames as one."""
        found = self._frames(values)
        if found is not None:
            return found
        rows = [self.tape.apply(aten.unsqueeze.default, self._rows(v), 1) for v in values]
        if len(rows) == 1:
            return Frames(rows[0])
        return Frames(self.tape.apply(aten.cat.default, rows, 1))

    def _rows(self, value: Value) -> Value:
        """A value as [batch, size]."""
        found = self.resolved(value)
        if len(value.shape) == 2:
            return found
        rows: Value = self.tape.apply(aten.reshape.default, found, [-1, value.shape[-1]])
        return rows

    def _frames(self, values: Sequence[object]) -> Frames | None:
        """Values at all frames as one, where they are frames of something; else None.

        The first may be None, where it does not matter, or 0, as a state before the first frame is.
        """
        roots = [None if value is None else self._sources.root(value) for value in values]
        head, known = roots[0], [root for root in roots if isinstance(root, Value)]
        missing = len(values) - len(known)
        if not known or missing > 1 or (missing and isinstance(head, Value)):
            return None
        if missing and head is not None:
            return (self._delayed(known) or self._lifted(roots)) if is_zero(head) else None
        return (
            self._outputs_of(roots)
            or self._cut_from(roots)
            or self._selected(roots)
            or self._lifted(roots)
        )

    def _outputs_of(self, values: Sequence[Any]) -> Frames | None:
        """The outputs of one layer."""
        places = [self._place.get(id(value)) for value in known_values(values)]
        if places[0] is None or any(p is None or p[0] is not places[0][0] for p in places):
            return None
        indices = completed([p[1] for p in places if p is not None], len(values))
        order = direction(indices, len(places[0][0].outputs))
        if order is None:
            return None
        frames = self._states(places[0][0])
        return Frames(frames.value, frames.reverse != order)

    def _delayed(self, values: list[Value]) -> Frames | None:
        """The outputs of one layer a step later, from 0: all but the last."""
        places = [self._place.get(id(value)) for value in values]
        if places[0] is None or any(p is None or p[0] is not places[0][0] for p in places):
            return None
        chain, indices = places[0][0], [p[1] for p in places if p is not None]
        if indices != list(range(len(chain.outputs) - 1)):
            return None
        frames = self._states(chain)
        before, size = int(not frames.reverse), frames.value.shape[-1]
        padding = [0, 0, before, 1 - before]
        padded = self.tape.apply(aten.constant_pad_nd.default, frames.value, padding)
        pairs = self.tape.apply(aten.unfold.default, padded, 1, 2, 1)
        flat = self.tape.apply(aten.transpose.int, pairs, 2, 3)
        flat = self.tape.apply(aten.reshape.default, flat, [*frames.value.shape[:2], 2 * size])
        first = 0 if before else size
        part = self.tape.apply(aten.slice.Tensor, flat, 2, first, first + size)
        return Frames(part, frames.reverse)

    def _cut_from(self, values: Sequence[Any]) -> Frames | None:
        """The frames of one value: [frames, size], with a batch before or after the frames."""
        cuts = [self._sources.range_of(value) for value in known_values(values)]
        if cuts[0] is None or any(
            cut is None or cut[0] is not cuts[0][0] or cut[1] != cuts[0][1] or cut[3] - cut[2] != 1
            for cut in cuts
        ):
            return None
        source, dim = cuts[0][:2]
        indices = completed([cut[2] for cut in cuts if cut is not None], len(values))
        order = direction(indices, source.shape[dim])
        rank, ids = len(source.shape), not source.tensor.is_floating_point()
        last = rank - 1 if not ids else rank  # ids have no features
        if order is None or rank not in ((2,) if ids else (2, 3)) or dim == last:
            return None
        found = self.resolved(source)
        if rank == 2 and not ids:
            found = self.tape.apply(aten.unsqueeze.default, found, 0)
        elif dim == 0:
            found = self.tape.apply(aten.transpose.int, found, 0, 1)
        return Frames(found, order)

    def _selected(self, values: Sequence[Any]) -> Frames | None:
        """The same step of another dimension of each frame."""
        found = selection(self._sources, values)
        if found is None:
            return None
        part = self.tape.apply(
            aten.select.int, self.resolved(found.whole), found.inner, found.index
        )
        return Frames(
            self.tape.apply(aten.transpose.int, part, 0, 1) if found.dim == 0 else part,
            found.reverse,
        )

    def _part(self, values: Sequence[Any], first: Step) -> Frames | None:
        """The same features of each frame."""
        cuts = [self._sources.range_of(value) for value in known_values(values)]
        same = {None if cut is None else (cut[1] - len(cut[0].shape), *cut[2:]) for cut in cuts}
        if len(same) != 1 or cuts[0] is None or cuts[0][1] != len(cuts[0][0].shape) - 1:
            return None
        head = [] if isinstance(values[0], Value) else [values[0]]
        inner = self._frames([*head, *(cut[0] for cut in cuts if cut is not None)])
        if inner is None:
            return None
        part = self.tape.apply(aten.slice.Tensor, inner.value, 2, *cuts[0][2:])
        return Frames(part, inner.reverse)

    def _lifted(self, values: Sequence[Any]) -> Frames | None:
        """What one operator gives for each frame alone."""
        steps = [self._sources.step(value) for value in known_values(values)]
        first = steps[-1]
        if first is not None and first.operator in PARTS:
            return self._part(values, first)
        if first is None or first.operator not in EACH_FRAME or len(values) < 2:
            return None
        if any(s is None or not alike(s, first) for s in steps[1:]):
            return None
        missing = len(steps) < len(values)
        if not missing and (steps[0] is None or not alike_from_zero(steps[0], first)):
            return None
        if missing and values[0] is not None and not keeps_zero(first):
            return None
        arguments = dict(first.arguments)
        reverse = set()
        for name, given in first.arguments.items():
            if not isinstance(given, Value):
                arguments[name] = spread(given, first)
                continue
            head = [values[0]] if missing else []
            inner = self._frames([*head, *(s.arguments[name] for s in steps if s is not None)])
            if inner is None:
                return None
            arguments[name] = inner.value
            reverse.add(inner.reverse)
        if len(reverse) != 1:
            return None
        self.tape.place, self.tape.where = first.place, first.where
        if first.operator == "addmm":
            weight = arguments["mat2"].T.contiguous()
            given = (arguments["mat1"], weight, arguments["self"])
            return Frames(self.tape.apply(aten.linear.default, *given), reverse.pop())
        if first.operator == "mm":
            return Frames(
                self.tape.apply(aten.matmul.default, arguments["self"], arguments["mat2"]),
                reverse.pop(),
            )
        return Frames(self.tape.apply(first.target, **arguments), reverse.pop())

    def _joined_frames(self, step: Step) -> Frames | None:
        """The frames that a step joins along time."""
        parts = step.arguments["tensors"]
        if not all(isinstance(part, Value) for part in parts) or len(parts) < 2:
            return None
        dim, rank = step.arguments["dim"], len(step.results[0].shape)
        if step.operator == "cat" and dim % rank == rank - 1:
            return None
        found = self._frames(list(parts))
        if found is None or not found.reverse:
            return found
        return Frames(self.tape.apply(aten.flip.default, found.value, [1]))

    def _laid(self, frames: Frames, step: Step) -> Value:
        """Frames [batch, frames, size] in the layout that a step gives."""
        shape = list(step.results[0].shape)
        value = frames.value
        first_is_time = step.arguments["dim"] % len(shape) == 0
        if first_is_time and value.shape[0] > 1:
            value = self.tape.apply(aten.transpose.int, value, 0, 1)
        if list(value.shape) == shape:
            return value
        laid: Value = self.tape.apply(aten.reshape.default, value, shape)
        return laid

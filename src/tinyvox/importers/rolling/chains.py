"""Steps of one cell in a row, and the layer that they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.importers.layer_graph import Place
from tinyvox.importers.rolling.affine import Affine, Norm, Part, Sources
from tinyvox.importers.rolling.cells import CellStep, Matcher
from tinyvox.importers.tape import Step, Value, run_layer
from tinyvox.model import Cell, Dense, Recurrent

_FAR = 100
"""Most steps from the state after the first frame back to what the cell saw there."""
_MOST_ORDERS = 100
"""Most orders of what it may have seen that are tried."""


@dataclass(frozen=True, eq=False)
class Chain:
    """A cell at the frames of an utterance, in the order in which it runs.

    `inputs` are the operands at each frame, `outputs` what the next frame sees, `states` what the
    first frame starts from, none for zeros, `final` the cell state after the last frame. The
    outputs are those of the layer times `scale`.
    """

    layer: Recurrent
    inputs: list[list[Value]]
    outputs: list[Value]
    states: list[Value]
    final: Value
    place: Place
    scale: float = 1.0


def find_chains(
    steps: Sequence[Step], sources: Sources, carried: Callable[[Value], bool]
) -> list[Chain]:
    """All chains among these steps. `carried` tells what comes from the states given as inputs."""
    finder = _Finder(steps, sources, carried)
    return [chain for row in finder.rows() if (chain := finder.chain(row)) is not None]


class _Finder:
    def __init__(
        self, steps: Sequence[Step], sources: Sources, carried: Callable[[Value], bool]
    ) -> None:
        self._sources, self._carried = sources, carried
        self._users: dict[int, list[Step]] = {}
        for step in steps:
            for value in step.inputs():
                self._users.setdefault(id(sources.root(value)), []).append(step)
        matcher = Matcher(sources)
        self._found: list[CellStep] = []
        for step in steps:
            found = self._match(matcher, step)
            self._found.extend([] if found is None else [found])

    def _match(self, matcher: Matcher, step: Step) -> CellStep | None:
        value = step.results[0]
        if not value.tensor.numel():
            return None
        if step.operator == "mul":
            return matcher.lstm(value)
        if step.operator == "add":
            return matcher.gru(value)
        if step.operator not in ("tanh", "relu"):
            return None
        gated = any(
            user.operator == "mul" and sum(1 for _ in user.inputs()) > 1
            for user in self._users.get(id(value), [])
        )
        return None if gated else matcher.plain(value)

    def rows(self) -> Iterator[list[CellStep]]:
        """The steps of each cell in the order in which they run; one alone where its state comes
        from an input of the model."""
        last: dict[int, list[CellStep]] = {}
        for step in self._found:
            row = self._before(step, last)
            if row is None:
                row = []
            row.append(step)
            last[id(step.after)] = row
            if step.norm is not None:  # the next step may see either
                last[id(step.norm.results[0])] = row
        for row in {id(row): row for row in last.values()}.values():
            if len(row) > 1 or self._is_carried(row[0]):
                yield row

    def _is_carried(self, step: CellStep) -> bool:
        states = [step.before, *(part.operand for part in _parts(step.gates))]
        return any(isinstance(each, Value) and self._carried(each) for each in states)

    def _before(self, step: CellStep, last: dict[int, list[CellStep]]) -> list[CellStep] | None:
        """The row that a step goes on."""
        if step.kind in ("lstm", "gru", "gru_reset_before", "li_gru"):
            return last.pop(id(step.before), None)
        for part in step.gates[0].parts:  # a plain cell sees its own output
            row = last.get(id(part.operand))
            if row is None or row[-1].kind != step.kind:
                continue
            here = {p.key for p in step.gates[0].parts if p is not part}
            if here <= {p.key for p in row[-1].gates[0].parts} <= here | {part.key}:
                return last.pop(id(part.operand))
        return None

    def chain(self, row: list[CellStep]) -> Chain | None:
        """The chain of a row; None where the weights or the states do not fit together."""
        row = self._settled(row)
        step = row[-1]
        seen, projection = self._seen(row)
        if seen is None:
            return None
        hidden_keys = {p.key for p in _parts(self._all(step)) if p.operand is seen}
        cell = self._cell(step, seen, hidden_keys, projection)
        outputs = [self._output(each, projection) for each in row]
        if cell is None or any(output is None for output in outputs):
            return None
        inputs = [self._inputs(each, hidden_keys) for each in row]
        alike = {tuple(p.key for p in self._input_parts(each, hidden_keys)) for each in row}
        scales = {each.scale for each in row}
        if len(alike) != 1 or len(scales) != 1 or not all(inputs):
            return None
        settings: dict[str, Any] = _norm_settings(row)
        if step.gate != "sigmoid":
            settings["gates"] = step.gate
        if step.activation != "tanh" and not step.kind.startswith("rnn"):
            settings["activation"] = step.activation
        layer = Recurrent(step.kind, cell, **settings)
        states = self._states(row[0], hidden_keys)
        if any(not self._carried(state) for state in states):
            opening = self._opening(layer, states[0], inputs[0])
            if opening is None or step.scale != 1:
                return None
            inputs, outputs, states = [opening, *inputs], [states[0], *outputs], []
        return Chain(
            layer, inputs, [o for o in outputs if o is not None],
            states, step.after, self._place_of(seen, step), step.scale,
        )  # fmt: skip

    def _opening(self, layer: Recurrent, state: Value, like: list[Value]) -> list[Value] | None:
        """The operands of the first step, which starts from zeros and is often folded, so that it
        has another form: what gives this state, when the layer runs over it from zeros. `like` are
        those of the second step."""
        known: list[Value] = []
        for step in self._ancestors(state):
            found = self._sources.affine(step.results[0])
            new = (
                [part.operand for part in found.parts if part.operand not in known] if found else []
            )
            known += new
            tries = itertools.permutations(known, len(like)) if new else iter(())
            for operands in itertools.islice(tries, _MOST_ORDERS):
                if self._opens(layer, state, operands, like):
                    return list(operands)
        return None

    def _opens(
        self, layer: Recurrent, state: Value, operands: Sequence[Value], like: Sequence[Value]
    ) -> bool:
        """Whether a layer gives a state for these operands, which are as wide as others."""
        if any(one.shape[-1] != two.shape[-1] for one, two in zip(operands, like, strict=True)):
            return False
        rows = [value.tensor.reshape(-1, value.shape[-1]) for value in operands]
        if len({len(row) for row in rows}) != 1:
            return False
        found = run_layer(layer, torch.cat(rows, dim=1)[:, None])
        same = found.numel() == state.tensor.numel()
        return same and torch.allclose(found.reshape(state.shape), state.tensor, 1e-4, 1e-5)

    def _ancestors(self, value: Value) -> Iterator[Step]:
        """Steps that a value depends on, the nearest first."""
        waiting: list[Value] = [value]
        seen: set[int] = set()
        while waiting and len(seen) < _FAR:
            step = self._sources.step(waiting.pop(0))
            if step is None or id(step) in seen:
                continue
            seen.add(id(step))
            yield step
            waiting += step.inputs()

    def _place_of(self, seen: Value, step: CellStep) -> Place:
        """Where the matrix stands that the cell multiplies its state by; where its weights were
        changed, the first that the state is multiplied by."""
        parts = [part for part in _parts(self._all(step)) if part.operand is seen]
        own = {part.weight.untyped_storage().data_ptr() for part in parts}
        users, found = list(self._users.get(id(seen), [])), []
        for user in users:
            if user.operator in ("linear", "addmm", "mm", "matmul"):
                weights = [v for v in user.arguments.values() if isinstance(v, Tensor)]
                if any(weight.untyped_storage().data_ptr() in own for weight in weights):
                    return user.place
                found.append(user.place)
            if user.operator == "cat":
                users += self._users.get(id(user.results[0]), [])
        return found[0] if found else Place()

    def _settled(self, row: list[CellStep]) -> list[CellStep]:
        """The steps with the norms of what sees no state as inputs."""
        outputs = {id(step.output) for step in row}

        def settled(gate: Affine) -> Affine:
            of_state: list[Norm] = []
            others: list[Norm] = []
            for norm in gate.norms:
                sees = any(id(part.operand) in outputs for part in norm.inner.parts)
                sees = sees or any(self._carried(part.operand) for part in norm.inner.parts)
                (of_state if sees else others).append(norm)
            for norm in others:
                whole = self._sources.itself(norm.value)
                part = whole.take(norm.first, norm.first + gate.rows)
                gate = gate if part is None else gate + part
            return replace(gate, norms=tuple(of_state))

        return [replace(step, gates=tuple(map(settled, step.gates))) for step in row]

    def _all(self, step: CellStep) -> tuple[Affine, ...]:
        return step.gates if step.reset is None else (*step.gates, step.reset)

    def _seen(self, row: list[CellStep]) -> tuple[Value | None, Tensor | None]:
        """What the last step sees of the one before, and the projection that it went through."""
        operands = [p.operand for p in _parts(self._all(row[-1]))]
        if len(row) == 1:
            carried = [value for value in operands if self._carried(value)]
            if not carried:
                return None, None
            return carried[0], self._projection(row[0].output, carried[0].shape[-1])
        before = row[-2].output
        for operand in operands:
            if operand is before:
                return operand, None
            known = self._sources.affine(operand)
            if known is not None and known.projects(before):
                return operand, known.parts[0].weight
        return None, None

    def _projection(self, output: Value, size: int) -> Tensor | None:
        """The projection of a cell that sees so many features of its own output."""
        if output.shape[-1] == size:
            return None
        known = [
            self._sources.affine(v) for s in self._users.get(id(output), []) for v in s.results
        ]
        fits = [k for k in known if k is not None and k.rows == size and k.projects(output)]
        return fits[0].parts[0].weight if fits else None

    def _output(self, step: CellStep, projection: Tensor | None) -> Value | None:
        """What a step gives to the next one."""
        if projection is None:
            return step.output
        for user in self._users.get(id(step.output), []):
            known = self._sources.affine(user.results[0])
            if known is not None and known.projects(step.output):
                weight = known.parts[0].weight
                if weight.data_ptr() == projection.data_ptr():
                    return user.results[0]
        return None

    def _states(self, first: CellStep, hidden_keys: set[tuple[object, ...]]) -> list[Value]:
        """What the first step starts from, where that is no constant."""
        seen = [p.operand for p in _parts(self._all(first)) if p.key in hidden_keys]
        memory = [first.before] if first.kind == "lstm" else []
        states = [*seen[:1], *memory]
        return [state for state in states if isinstance(state, Value)]

    def _input_parts(self, step: CellStep, hidden_keys: set[tuple[object, ...]]) -> list[Part]:
        """A product for each value that a gate sees and that is no state."""
        parts = (p for gate in step.gates for p in gate.parts if p.key not in hidden_keys)
        return list({id(part.operand): part for part in parts}.values())

    def _inputs(self, step: CellStep, hidden_keys: set[tuple[object, ...]]) -> list[Value]:
        return [part.operand for part in self._input_parts(step, hidden_keys)]

    def _cell(
        self, step: CellStep, seen: Value, hidden_keys: set[tuple[object, ...]],
        projection: Tensor | None,
    ) -> Cell | None:  # fmt: skip
        """The weights of the cell, from a step that sees a state."""
        inputs = self._inputs(step, hidden_keys)
        vectors = _norm_vectors(step)
        if vectors is None:
            return None
        normed = "norm_hh" in vectors
        last = step.gates[-1] if step.reset is None else step.reset
        gates = [norm_of(gate) for gate in step.gates] if normed else [*step.gates[:-1], last]
        if not inputs or not all(any(p.operand is seen for p in gate.parts) for gate in gates):
            return None
        by_input = [_weights(gate, inputs) for gate in step.gates]
        by_state = [_weights(gate, [seen]) * step.scale for gate in gates]
        others = {id(p.operand) for p in _parts(self._all(step))} - {id(seen)}
        if others != set(map(id, inputs)):
            return None
        if step.reset is not None and step.reset.bias is not None:
            vectors["bias_hn"] = step.reset.bias.clone()
        peepholes = _peepholes(step)
        if peepholes is None:
            return None
        if peepholes.numel():
            vectors["peepholes"] = peepholes
        biases = [_bias(gate) for gate in step.gates]
        return Cell(
            Dense(torch.cat(by_input)),
            Dense(torch.cat(by_state)),
            torch.cat(biases),
            weight_hr=None if projection is None else Dense(projection.contiguous()),
            **vectors,
        )


def _parts(gates: Sequence[Affine]) -> Iterator[Part]:
    """The products in sums, those inside norms too."""
    for gate in gates:
        yield from gate.parts
        for norm in gate.norms:
            yield from norm.inner.parts


def norm_of(gate: Affine) -> Affine:
    """The rows of a gate before the norm of what sees the state."""
    (norm,) = gate.norms
    inner = norm.inner.take(norm.first, norm.first + gate.rows)
    return Affine(gate.rows) if inner is None else inner


def _bias(gate: Affine) -> Tensor:
    """What is added to a gate in the end."""
    total = torch.zeros(gate.rows) if gate.bias is None else gate.bias
    for norm in gate.norms:
        total = total + norm.bias[norm.first : norm.first + gate.rows]
    return total


def _norm_vectors(step: CellStep) -> dict[str, Tensor] | None:
    """The tensors of a cell's norms; None for norms that no cell has."""
    found: dict[str, Tensor] = {}
    norms = [norm for gate in step.gates for norm in gate.norms]
    if norms:
        firsts = [norm.first for norm in norms]
        wanted = [sum(gate.rows for gate in step.gates[:i]) for i in range(len(step.gates))]
        together = len({id(norm.value) for norm in norms}) == 1 and step.reset is None
        if not together or sorted(firsts) != wanted:
            return None
        rows = [slice(n.first, n.first + g.rows) for n, g in zip(norms, step.gates, strict=True)]
        found["norm_hh"] = torch.cat([norms[0].weight[each] for each in rows])
        if norms[0].inner.bias is not None:
            found["bias_hh"] = torch.cat([norms[0].inner.bias[each] for each in rows])
    if step.norm is not None:
        given, size = step.norm.arguments, step.gates[0].rows
        weight = torch.ones(size) if given["weight"] is None else given["weight"]
        bias = torch.zeros(size) if given["bias"] is None else given["bias"]
        found["norm_cell"] = torch.cat([weight, bias])
    return found


def _norm_settings(row: list[CellStep]) -> dict[str, Any]:
    """How the cells of a row normalize."""
    step, settings = row[-1], {}
    eps = [norm.eps for gate in step.gates for norm in gate.norms]
    if step.norm is not None:
        eps.append(step.norm.arguments["eps"])
        before = row[-2].norm if len(row) > 1 else None
        settings["carries_norm"] = before is not None and step.before is before.results[0]
    return {**settings, "eps": eps[0]} if eps else settings


def _weights(gate: Affine, operands: list[Value]) -> Tensor:
    """The weights of a gate for these operands beside each other; zeros for one it does not see."""
    blocks = []
    for operand in operands:
        mine = [part.weight for part in gate.parts if part.operand is operand]
        none = torch.zeros(gate.rows, operand.shape[-1])
        blocks.append(sum(mine[1:], mine[0]) if mine else none)
    return torch.cat(blocks, dim=1)


def _peepholes(step: CellStep) -> Tensor | None:
    """The weights of the peepholes, i f o: empty where there are none, None for others."""
    found = []
    for i, gate in enumerate(step.gates):
        if not gate.diagonals:
            continue
        state = step.after if i == 3 else step.before
        if step.kind != "lstm" or i == 2 or [v for _, v in gate.diagonals] != [state]:
            return None
        found.append(gate.diagonals[0][0])
    if len(found) not in (0, 3):
        return None
    return torch.cat(found) if found else torch.zeros(0)

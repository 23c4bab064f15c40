"""A TensorFlow graph on a tape: what its outputs need is run, from what is known.

A node runs when something asks for its outputs. The loops of TensorFlow 1 are made of nodes that
hand values from one round to the next (Enter, Merge, Switch, NextIteration, Exit): a round is a
`Scope`, in which a node has its value of that round. Source: "Implementation of control flow in
TensorFlow", tensorflow.org, 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.tape import Tape
from tinyvox.importers.tensorflow import place_of
from tinyvox.importers.tf_graph.graph import (
    Attribute,
    GraphFile,
    GraphNode,
    source_of,
)
from tinyvox.importers.tf_graph.scopes import (
    DEAD,
    Dead,
    Loop,
    Scope,
    deeper,
    first_of,
    frame_of,
    is_true,
    loop_of,
    node_of,
    sources_of,
)
from tinyvox.importers.tf_tensors import region_of
from tinyvox.importers.walk import UNSUPPORTED

MAX_STEPS = 200_000
"""Most operators that are run, those of each round of a loop among them."""
_MISFITS = (
    *(ArithmeticError, AttributeError, AssertionError, LookupError, RuntimeError, TypeError),
    ValueError,
)
"""What Python and torch raise where the inputs of an operator are none that it may have."""


OUTPUTS: dict[str, dict[str, int]] = {
    "BlockLSTM": {n: i for i, n in enumerate(("i", "cs", "f", "o", "ci", "co", "h"))},
    "BlockLSTMV2": {n: i for i, n in enumerate(("i", "cs", "f", "o", "ci", "co", "h"))},
    "GRUBlockCell": {n: i for i, n in enumerate(("r", "u", "c", "h"))},
    "LSTMBlockCell": {n: i for i, n in enumerate(("i", "cs", "f", "o", "ci", "co", "h"))},
    "Merge": {"output": 0, "value_index": 1},
    "Switch": {"output_false": 0, "output_true": 1},
    "TensorArrayV3": {"handle": 0, "flow": 1},
}
"""The number of each output of operators that have several, as functions name them."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The tensors that a loop takes and gives one by one; None where there is none yet."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Context:
    """One operator, as its translation sees it."""

    tape: Tape
    node: GraphNode
    inputs: Sequence[Any]
    call: Callable[[str, Sequence[Any]], tuple[Any, ...]]
    """Runs a function of the graph, by name, on these inputs."""

    def attribute(self, name: str) -> Attribute:
        """A setting of the operator."""
        return self.node.attribute(name)

    def given(self, index: int) -> Any:
        """An input, which must be there; negative numbers count from the last one."""
        if not -len(self.inputs) <= index < len(self.inputs):
            raise ImporterError(f"has {len(self.inputs)} inputs, expected more")
        return self.inputs[index]

    def constant(self, index: int) -> Tensor:
        """An input that must be a constant."""
        value = self.given(index)
        if not isinstance(value, Tensor):
            raise ImporterError(f"input {index} is computed, expected a constant")
        return value

    def numbers(self, index: int) -> list[int]:
        """A constant input as whole numbers."""
        return [int(number) for number in self.constant(index).flatten().tolist()]

    def number(self, index: int) -> int:
        """A constant input as one whole number."""
        numbers = self.numbers(index)
        if len(numbers) != 1:
            raise ImporterError(f"input {index} has {len(numbers)} numbers, expected one")
        return numbers[0]

    def rows(self, index: int) -> tuple[Any, ...]:
        """An input that holds tensors one by one."""
        value = self.given(index)
        if not isinstance(value, Rows):
            raise ImporterError(f"input {index} is no array of tensors; the file is damaged")
        return value.parts


Translator = Callable[[Context], Any]


class Translation:
    """A graph written to a tape."""

    def __init__(
        self,
        tape: Tape,
        file: GraphFile,
        operators: Mapping[str, Translator],
        known: dict[str, Any],
    ) -> None:
        self._tape, self._file, self._operators = tape, file, operators
        self._main = Scope(file.nodes, {name: (value,) for name, value in known.items()})
        self._names: dict[int, str] = {}
        self._folded: dict[tuple[object, ...], tuple[Sequence[Any], Any]] = {}
        self._constants: dict[int, Any] = {}
        self._steps = 0

    def value(self, name: str) -> Any:
        """What a node of the main graph gives."""
        return self._value(name, self._main)

    def _value(self, given: str, scope: Scope) -> Any:
        """What an input names: `node`, `node:1`, or `node:output:0` in a function."""
        name, *rest = given.split(":")
        self._run(name, scope)
        results = scope.found[name]
        if isinstance(results, Dead):
            return DEAD
        index = 0
        if rest:
            if not rest[-1].isdecimal() or len(rest[-1]) > 6:
                raise ImporterError(f"takes {given!r}, which names no output; the file is damaged")
            index = int(rest[-1])
        if len(rest) > 1:
            op = scope.nodes[name].op if name in scope.nodes else ""
            index += OUTPUTS.get(op, {}).get(rest[0], 0)
        if index >= len(results):
            raise ImporterError(f"takes output {given!r} of {len(results)}; the file is damaged")
        return results[index]

    def _run(self, name: str, scope: Scope) -> None:
        """Run a node after those that it needs."""
        waiting, opened = [name], set()
        while waiting:
            now = waiting[-1]
            if now in scope.found:
                waiting.pop()
                continue
            node = node_of(scope, now)
            missing = [s for s in sources_of(node) if s not in scope.found]
            if not missing:
                scope.found[now] = self._results(node, scope)
                continue
            if now in opened:
                raise ImporterError(f"node {now!r} depends on itself; the file is damaged")
            opened.add(now)
            waiting += missing

    def _results(self, node: GraphNode, scope: Scope) -> tuple[Any, ...] | Dead:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ImporterError(f"needs more than {MAX_STEPS} operators, loops included")
        if node.op in ("Enter", "RefEnter"):
            if scope.outer is None:
                raise ImporterError(f"node {node.name!r} begins no loop that ends")
            return (self._value(first_of(node), scope.outer),)
        if node.op in ("Exit", "RefExit"):
            return (self._exit(node, scope),)
        given = [self._value(i, scope) for i in node.inputs if not i.startswith("^")]
        if node.op in ("Merge", "RefMerge"):
            alive = [(v, torch.tensor(i)) for i, v in enumerate(given) if v is not DEAD]
            return alive[0] if alive else DEAD
        if any(value is DEAD for value in given):
            return DEAD
        return self._applied(node, given, scope)

    def _applied(self, node: GraphNode, given: list[Any], scope: Scope) -> tuple[Any, ...]:
        """What an operator gives. One on the very same constants is computed once."""
        if node.op in ("Const", "ImmutableConst"):
            return (self._constant(node),)
        constants = bool(given) and all(isinstance(value, Tensor) for value in given)
        key = (id(node), *map(id, given))
        if constants and key in self._folded:
            found: tuple[Any, ...] = self._folded[key][1]
            return found
        results = self._translated(node, given, scope)
        if constants:
            self._folded[key] = (given, results)
        name = next((n for v in given if (n := self._names.get(id(v)))), None)
        if constants and name is not None:
            self._names.update((id(result), name) for result in results)
        return results

    def _translated(self, node: GraphNode, given: list[Any], scope: Scope) -> tuple[Any, ...]:
        where = f"{node.op} (node {node.name!r})"
        try:
            translate = self._operators.get(node.op)
            if translate is None:
                raise ImporterError(UNSUPPORTED)
            self._tape.place, self._tape.where = self._place(given), where

            def call(name: str, inputs: Sequence[Any]) -> tuple[Any, ...]:
                return self._called(name, inputs, scope.depth + 1)

            results = translate(Context(self._tape, node, given, call))
        except ImporterError as error:
            said = str(error)
            nested = " (node '" in said.split(":")[0]
            raise ImporterError(said if nested else f"{where}: {said}") from error
        except _MISFITS as error:
            said = (str(error).strip().splitlines() or [""])[0][:100]
            raise ImporterError(
                f"{where}: does not fit its inputs ({type(error).__name__}: {said}); the file is "
                "damaged"
            ) from error
        return results if isinstance(results, tuple) else (results,)

    def _place(self, given: Sequence[Any]) -> Place:
        """A name for the layer that an operator gives: that of its weight."""
        weights = [v for v in given if isinstance(v, Tensor) and v.ndim > 1]
        name = next((self._names[id(w)] for w in weights if id(w) in self._names), None)
        return Place(is_layer=True) if name is None else place_of(name)

    def _constant(self, node: GraphNode) -> Any:
        """The value of a constant, the same tensor every time."""
        if id(node) not in self._constants:
            try:
                value = self._region(node)
            except ImporterError as error:
                raise ImporterError(f"{node.op} (node {node.name!r}): {error}") from error
            self._constants[id(node)] = value
            self._names[id(value)] = node.name
        return self._constants[id(node)]

    def _region(self, node: GraphNode) -> Tensor | bytes:
        if node.op == "Const":
            return node.attribute("value").tensor
        name = node.attribute("memory_region_name").text
        if name not in self._file.regions:
            raise ImporterError(f"names the region {name!r}, which is not in the file")
        return region_of(self._file.regions[name], node.attribute("dtype").whole, node.shape or ())

    def _exit(self, node: GraphNode, scope: Scope) -> Any:
        """What a loop gives when it ends."""
        switch = node_of(scope, source_of(first_of(node)))
        merge = node_of(scope, source_of(first_of(switch)))
        frame = frame_of(scope, merge)
        if frame not in scope.loops:
            loop = loop_of(scope, frame, switch)
            scope.loops[frame] = self._looped(loop, scope)
        if merge.name not in scope.loops[frame]:
            raise ImporterError(f"node {node.name!r} ends no loop; the file is damaged")
        return scope.loops[frame][merge.name]

    def _looped(self, loop: Loop, scope: Scope) -> dict[str, Any]:
        """Run a loop round by round; what it counts must be constants."""
        states = {merge: self._value(entry, scope) for merge, entry in loop.entries.items()}
        while True:
            found: dict[str, Any] = {m: (v, torch.tensor(0)) for m, v in states.items()}
            inner = Scope(scope.nodes, found, scope, deeper(scope.depth + 1))
            if not is_true(self._value(loop.condition, inner)):
                return states
            states = {merge: self._value(v, inner) for merge, v in loop.following.items()}

    def _called(self, name: str, inputs: Sequence[Any], depth: int) -> tuple[Any, ...]:
        """What a function gives for these inputs."""
        function = self._file.functions.get(name)
        if function is None:
            raise ImporterError(f"calls the function {name!r}, which is not in the file")
        if len(inputs) != len(function.arguments):
            raise ImporterError(
                f"calls {name!r} with {len(inputs)} values, expected {len(function.arguments)}"
            )
        known: dict[str, Any] = {n: (v,) for n, v in zip(function.arguments, inputs, strict=True)}
        scope = Scope(function.nodes, known, None, deeper(depth))
        return tuple(self._value(result, scope) for result in function.results)

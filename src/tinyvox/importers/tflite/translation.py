"""The graph of a TensorFlow Lite file on a tape, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.tape import Tape
from tinyvox.importers.tensorflow import bounded, place_of
from tinyvox.importers.tflite.file import FileTensor, Graph, Operation
from tinyvox.importers.walk import UNSUPPORTED

aten = torch.ops.aten
MAX_LOOPS = 10_000
"""Most rounds of a loop."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A tensor that a loop fills row by row: `parts`, each with one step of the first dimension."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Context:
    """One operator, as its translation sees it."""

    tape: Tape
    operation: Operation
    inputs: Sequence[Any]
    """Values and constants; None for an input that is not given."""
    output_shapes: Sequence[tuple[int, ...]]
    notes: list[str]
    run: Callable[[int, Sequence[Any]], Sequence[Any]]
    """Runs another graph of the file, by number, on these inputs."""

    def options(self, name: str) -> Any:
        """The operator's options, a FlatBuffers table of this name."""
        import tflite

        table = getattr(tflite, name)()
        held = self.operation.table.BuiltinOptions()
        if held is None:
            raise ImporterError(f"has no {name}; the file is damaged")
        table.Init(held.Bytes, held.Pos)
        return table

    def constant(self, index: int) -> Tensor:
        """An input that must be a constant."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if not isinstance(value, Tensor):
            raise ImporterError(f"input {index} is computed, expected a constant")
        return value

    def numbers(self, index: int) -> list[int]:
        """A constant input as whole numbers."""
        return [int(number) for number in self.constant(index).flatten().tolist()]

    def given(self, index: int) -> Any:
        """An input, which must be there."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise ImporterError(f"input {index} is missing")
        return value

    def optional(self, index: int) -> Tensor | None:
        """A constant, or None where it is not given."""
        there = index < len(self.inputs) and self.inputs[index] is not None
        return self.constant(index) if there else None

    def activated(self, value: Any, kind: int) -> Any:
        """A value after the activation that is fused into an operator."""
        match kind:
            case 0:
                return value
            case 1:
                return self.tape.apply(aten.relu.default, value)
            case 2:
                return self.tape.apply(aten.hardtanh.default, value, -1.0, 1.0)
            case 3:
                return self.tape.apply(aten.hardtanh.default, value, 0.0, 6.0)
            case 4:
                return self.tape.apply(aten.tanh.default, value)
        raise ImporterError(f"has fused activation {kind}, expected none, relu, relu6 or tanh")


Translator = Callable[[Context], Any]


@dataclass
class Translation:
    """Graphs written to a tape. `found` has what each tensor of the main graph is, by number."""

    tape: Tape
    graphs: Sequence[Graph]
    operators: Mapping[str, Translator]
    notes: list[str] = field(default_factory=list)
    _constants: dict[int, Any] = field(default_factory=dict)
    _rounds: int = 0

    def run(self, number: int, inputs: Mapping[int, Any], wanted: Sequence[int]) -> dict[int, Any]:
        """Run a graph for inputs by number; gives what is known of each tensor afterwards.

        Operators that no `wanted` tensor depends on are left out.
        """
        if not 0 <= number < len(self.graphs):
            raise ImporterError(f"calls graph {number} of {len(self.graphs)}")
        graph = self.graphs[number]
        found = dict(inputs)
        for operation in _needed(graph, wanted, found):
            where = f"{operation.name} ({_title(graph, operation)!r})"
            self.tape.place, self.tape.where = _place(graph, operation), where
            try:
                self._apply(graph, operation, found)
            except ImporterError as error:
                said = str(error)
                inner = said if said.startswith(where) else f"{where}: {said}"
                raise ImporterError(inner) from error
        return found

    def value(self, graph: Graph, number: int, found: Mapping[int, Any]) -> Any:
        """What a tensor is: a value, a constant, or None for tensor -1."""
        if number == -1:
            return None
        if number in found:
            return found[number]
        tensor = graph.tensors[number]
        if id(tensor) not in self._constants:
            self._constants[id(tensor)] = _constant(tensor)
        return self._constants[id(tensor)]

    def _apply(self, graph: Graph, operation: Operation, found: dict[int, Any]) -> None:
        translate = self.operators.get(operation.name)
        if translate is None:
            raise ImporterError(UNSUPPORTED)
        given = [self.value(graph, number, found) for number in operation.inputs]
        if operation.name not in _ON_ROWS:
            given = [self.whole(value) for value in given]
        shapes = [graph.tensors[number].shape for number in operation.outputs if number >= 0]
        context = Context(self.tape, operation, given, shapes, self.notes, self._called)
        try:
            results = translate(context)
        except ImporterError:
            raise
        except Exception as error:  # options of a damaged file lead anywhere
            said = (str(error).strip().splitlines() or [""])[0][:100]
            raise ImporterError(
                f"cannot be read ({type(error).__name__}: {said}); the file is damaged"
            ) from error
        if not isinstance(results, tuple):
            results = (results,)
        found.update(zip(operation.outputs, results, strict=False))

    def whole(self, value: Any) -> Any:
        """The rows of a loop as one tensor."""
        return (
            self.tape.apply(aten.cat.default, list(value.parts))
            if isinstance(value, Rows)
            else value
        )

    def _called(self, number: int, inputs: Sequence[Any]) -> Sequence[Any]:
        """What another graph gives for these inputs."""
        self._rounds += 1
        if self._rounds > MAX_LOOPS:
            raise ImporterError(f"loops more than {MAX_LOOPS} times")
        if not 0 <= number < len(self.graphs):
            raise ImporterError(f"calls graph {number} of {len(self.graphs)}")
        graph = self.graphs[number]
        found = self.run(number, dict(zip(graph.inputs, inputs, strict=True)), graph.outputs)
        return [self.value(graph, output, found) for output in graph.outputs]


_ON_ROWS = frozenset(("WHILE", "GATHER", "SLICE", "CONCATENATION", "DYNAMIC_UPDATE_SLICE"))
"""Operators that take rows as they are."""


def _constant(tensor: FileTensor) -> Any:
    """The value of a tensor that no operator gives: a constant, or a variable, which starts at
    zero."""
    if isinstance(tensor.data, bytes):
        return tensor.data
    if tensor.data is not None:
        return tensor.value()
    if any(size < 0 for size in tensor.shape):
        raise ImporterError(f"tensor {tensor.name!r} is computed by nothing; the file is damaged")
    return torch.zeros(bounded(tensor.shape))


def _needed(graph: Graph, wanted: Sequence[int], known: Mapping[int, Any]) -> list[Operation]:
    """The operators that these tensors depend on, in the order of the file."""
    needed, found = {n for n in wanted if n not in known}, []
    for operation in reversed(graph.operations):
        if any(output in needed for output in operation.outputs):
            needed.update(n for n in operation.inputs if n not in known)
            found.append(operation)
    return found[::-1]


def _title(graph: Graph, operation: Operation) -> str:
    return graph.tensors[operation.outputs[0]].name if operation.outputs else ""


def _place(graph: Graph, operation: Operation) -> Place:
    """A name for the layer that an operator gives: that of its weight, without its last parts."""
    constants = [graph.tensors[n] for n in operation.inputs if n >= 0]
    weights = [t.name for t in constants if t.data is not None and len(t.shape) > 1]
    if not weights:
        return Place(is_layer=True)
    return place_of(weights[0])

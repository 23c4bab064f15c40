"""A foreign model as a tape: the ATen operators that it comes to, run for one example.

An importer goes through its foreign graph once, in order, and calls `apply` with what each operator
comes to in PyTorch's terms:

    tape = Tape()
    features = tape.input("features", torch.randn(1, 7, 26))
    tape.place, tape.where = Place("dense1", is_layer=True), "MatMul (node 'dense1')"
    hidden = tape.apply(aten.linear.default, features, weight, bias)

What depends on an input is a `Value`, whose `tensor` is what torch computes for the example; all
else is a plain tensor or number. An operator on these alone is computed and leaves no step, so
constants are folded on the way, shapes too. `importers.walk` turns a tape into a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree

from tinyvox.errors import ImporterError
from tinyvox.executor import Executor
from tinyvox.importers.layer_graph import Place
from tinyvox.model import (
    INPUT,
    Activation,
    ElementwiseRecurrence,
    Model,
    Node,
    Recurrent,
    Slice,
)

SHAPE_ALONE = frozenset(("sym_size", "new_zeros", "new_ones", "new_full", "zeros_like"))
"""Operators whose result depends on the shape of their input alone, and so is a constant."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on an input; `tensor` is what it is for the example."""

    tensor: Tensor
    name: str = ""
    """The name of an input; empty for what an operator gives."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.tensor.shape)


@dataclass(frozen=True, eq=False)
class Step:
    """An operator that was applied: its arguments by name, and the values that it gave."""

    operator: str
    """ATen's name, without overload and without the underscore of an in-place form."""
    arguments: Mapping[str, Any]
    results: tuple[Value, ...]
    is_tuple: bool
    """Whether torch gives a tuple of tensors, even of one."""
    place: Place
    where: str
    """Where the operator stands in the source, for messages."""
    target: Callable[..., Any]
    """What computes the results from the arguments, tensors in place of values."""

    def inputs(self) -> Iterator[Value]:
        """The values among the arguments, those in lists too."""
        return values_in(self.arguments.values())

    @property
    def result(self) -> Any:
        """What torch computed for the example: a tensor, or a tuple of these."""
        tensors = tuple(value.tensor for value in self.results)
        return tensors if self.is_tuple else tensors[0]


@dataclass
class Tape:
    """The steps so far. `place` and `where` say where the operators that come next stand."""

    steps: list[Step] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    place: Place = field(default_factory=Place)
    where: str = ""
    budget: int | None = None
    """The elements that all results together may have yet, for a source that nobody vouches for."""

    def input(self, name: str, example: Tensor) -> Value:
        """An input of the model, with an example."""
        self.inputs.append(Value(example, name))
        return self.inputs[-1]

    def apply(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """What an operator gives: a value, or a tuple of these; a tensor where it is a constant.

        Raises ImporterError where torch cannot compute it, and before that where the budget is
        spent.
        """
        if self.budget is not None:
            self._spend(target, tensors_of(args), tensors_of(kwargs))
        if not any(True for _ in values_in([args, kwargs])):
            return computed(target, args, kwargs)
        given = tensors_of(args)
        if target._schema.is_mutable:  # values stay as they are
            given = (given[0].clone(), *given[1:])
        found = computed(target, given, tensors_of(kwargs))
        if operator_name(target) in SHAPE_ALONE:
            return found
        return self.record(target, args, kwargs, found)

    def record(self, target: OpOverload, args: Sequence[Any], kwargs: Any, found: Any) -> Any:
        """Note an operator whose result for the example is known."""
        is_tuple = isinstance(found, tuple | list)
        results = tuple(Value(each) for each in (found if is_tuple else [found]))
        arguments = bound(target, args, kwargs)
        if (known := _of_ids(operator_name(target), arguments, found)) is not None:
            return known
        self.steps.append(
            Step(
                operator_name(target), arguments, results, is_tuple, self.place, self.where, target
            )
        )
        return results if is_tuple else results[0]

    def activation(self, kind: str, given: Any) -> Any:
        """An elementwise function, `kind` of ACTIVATIONS, that no ATen operator computes."""
        target = Executor(Model(1, (Node(kind, Activation(kind), (INPUT,)),)))

        def run(values: Tensor) -> Tensor:
            flat: Tensor = target(values.reshape(1, -1, 1))
            return flat.reshape(values.shape)

        if not isinstance(given, Value):
            return computed(run, [given], {})
        result = Value(computed(run, [given.tensor], {}))
        step = Step(kind, {"self": given}, (result,), False, self.place, self.where, run)
        self.steps.append(step)
        return result

    def recurrent(
        self, layer: Recurrent, frames: Value, states: Sequence[Any] = ()
    ) -> tuple[Value, Value, Value]:
        """A recurrent layer over frames [batch, time, size].

        Its outputs, [batch, time, size of the layer], forward before backward; its final hidden
        states, [cells, batch, size]; its final cell states, which nothing but an output of the
        model may use. `states` are the states that it starts from: zeros, or what comes from an
        input of the model that holds states.
        """
        arguments = {"input": frames, "layer": layer, "states": list(states)}
        outputs = _run(**tensors_of(arguments))
        results = tuple(Value(each) for each in outputs)
        step = Step("recurrent", arguments, results, True, self.place, self.where, _run)
        self.steps.append(step)
        return results[0], results[1], results[2]

    def elementwise_recurrence(
        self, layer: ElementwiseRecurrence, gate: Value, frames: Value
    ) -> Value:
        """A recurrence of each value by itself, over a gate and frames, [batch, time, size]."""
        arguments = {"gate": gate, "input": frames, "layer": layer}
        result = Value(_run_elementwise(**tensors_of(arguments)))
        step = Step(
            "elementwise_recurrence", arguments, (result,), False, self.place, self.where,
            _run_elementwise,
        )  # fmt: skip
        self.steps.append(step)
        return result

    def _spend(self, target: OpOverload, args: Any, kwargs: Any) -> None:
        """Take the size of a result, known without its values, from the budget."""
        found = computed(target, *_without_values(target, args, kwargs))
        parts = found if isinstance(found, tuple | list) else [found]
        self.budget = (self.budget or 0) - sum(part.numel() for part in parts)
        if self.budget < 0:
            raise ImporterError(
                "its result is too large: together the tensors that the graph computes have more "
                "elements than its weights explain"
            )

    def needed(self, outputs: Sequence[Value]) -> list[Step]:
        """The steps that these values depend on, in order."""
        return needed(self.steps, outputs)


def _of_ids(operator: str, arguments: Mapping[str, Any], found: Any) -> Value | Tensor | None:
    """What limits and masks give of token ids, which are 0 or more: the ids, or ones. None where
    more is done, or to something else."""
    ids = arguments.get("self")
    if not isinstance(ids, Value) or ids.tensor.is_floating_point():
        return None
    low = arguments.get("other" if operator == "ge" else "min")
    if not isinstance(low, int | float) or low > 0:
        return None
    if operator == "ge":
        return torch.ones_like(found)
    is_limit = operator in ("clamp", "clamp_min") and arguments.get("max") is None
    return ids if is_limit else None


@dataclass(frozen=True)
class Traced:
    """A foreign model run for one example: the tape, its input with features, and its output."""

    tape: Tape
    entry: Value
    output: Value
    others: tuple[Value, ...] = ()
    """What else the model gives."""
    states: tuple[Value, ...] = ()
    """Inputs that hold the states of recurrent layers, as the model gave them for the frames
    before. They become the layers' own; `others` may then be states, too."""
    time: int | None = None
    """The dimension of the input that is known to be time, if one is."""
    windowed: bool = False
    """Whether the input holds each frame with those around it, [batch, time, window, feature]. The
    example must then be the windows of one signal, with zeros beyond its ends."""


def needed(steps: Sequence[Step], outputs: Sequence[Value]) -> list[Step]:
    """Those of the steps that these values depend on, in order."""
    wanted = set(map(id, outputs))
    found = []
    for step in reversed(steps):
        if any(id(value) in wanted for value in step.results):
            wanted.update(id(value) for value in step.inputs())
            found.append(step)
    return found[::-1]


def _run(input: Tensor, layer: Recurrent, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    outputs = run_layer(layer, input)
    sizes = [cell.size for cell in layer.cells().values()]
    ends = [-1 if name == "forward" else 0 for name in layer.cells()]
    parts = zip(torch.split(outputs, sizes, dim=-1), ends, strict=True)
    hidden = torch.stack([part[:, end] for part, end in parts])
    return outputs, hidden, torch.zeros_like(hidden)


def _run_elementwise(gate: Tensor, input: Tensor, layer: ElementwiseRecurrence) -> Tensor:
    size = input.shape[-1]
    halves = Slice(0, size), Slice(size, 2 * size)
    nodes = [Node(f"half{i}", half, (INPUT,)) for i, half in enumerate(halves)]
    nodes.append(Node("states", layer, ("half0", "half1")))
    with torch.no_grad():
        outputs: Tensor = Executor(Model(2 * size, tuple(nodes)))(torch.cat([gate, input], -1))
    return outputs


def _without_values(target: OpOverload, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments with which torch finds the shape of a result alone."""

    def bare(each: Any) -> Any:
        return each.to("meta") if isinstance(each, Tensor) else each

    makes = any(argument.name == "device" for argument in target._schema.arguments)
    args, kwargs = _pytree.tree_map(bare, (args, kwargs))
    return args, {**kwargs, "device": "meta"} if makes else kwargs


def run_layer(layer: Recurrent, frames: Tensor) -> Tensor:
    """What a recurrent layer gives for frames [batch, time, size], from zeros."""
    model = Model(frames.shape[-1], (Node("layer", layer, (INPUT,)),))
    with torch.no_grad():
        outputs: Tensor = Executor(model)(frames)
    return outputs


def values_in(arguments: Any) -> Iterator[Value]:
    """The values among arguments, at any depth of lists, tuples and mappings."""
    if isinstance(arguments, Value):
        yield arguments
    elif isinstance(arguments, Mapping):
        yield from values_in(arguments.values())
    elif isinstance(arguments, list | tuple) or type(arguments).__name__ == "dict_values":
        for each in arguments:
            yield from values_in(each)


def mapped(change: Callable[[Value], Any], arguments: Any) -> Any:
    """Arguments in which every value is replaced, at any depth."""
    if isinstance(arguments, Value):
        return change(arguments)
    if isinstance(arguments, Mapping):
        return {key: mapped(change, each) for key, each in arguments.items()}
    if isinstance(arguments, list | tuple):
        changed = [mapped(change, each) for each in arguments]
        return changed if isinstance(arguments, list) else tuple(changed)
    return arguments


def tensors_of(arguments: Any) -> Any:
    """Arguments with each value's tensor in its place."""
    return mapped(lambda value: value.tensor, arguments)


def computed(target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What torch computes. Raises ImporterError where it cannot."""
    try:
        with torch.no_grad():
            found = target(*args, **kwargs)
            return tuple(found) if isinstance(found, list) else found
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ImporterError(f"torch cannot compute it: {text[0]}") from error


def operator_name(target: OpOverload) -> str:
    """An ATen operator's name without overload, and without the underscore of its in-place form."""
    name: str = target._schema.name.split("::")[1]
    return name[:-1] if target._schema.is_mutable else name


def bound(target: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, defaults included."""
    schema = target._schema.arguments
    defaults = {a.name: a.default_value for a in schema}
    return {**defaults, **{a.name: v for a, v in zip(schema, args, strict=False)}, **kwargs}

"""The walk along a tape, step by step, that finds the layers."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tinyvox.errors import ImporterError, ModelError
from tinyvox.importers.final_states import States
from tinyvox.importers.fusion import fused
from tinyvox.importers.layer_graph import LayerGraph
from tinyvox.importers.operators import OPERATORS, Call, Carried, Unusable, canonical
from tinyvox.importers.signal import Stream, in_order, input_stream
from tinyvox.importers.states import RECURRENT
from tinyvox.importers.tape import Step, Traced, Value, mapped, needed
from tinyvox.model import INPUT, ContextWindow, Model, Unflatten

UNSUPPORTED = "is not supported; the docs list what is (What can be compressed)"
"""What is said of an operator that no layer stands for."""
_ON_NUMBERS = frozenset(("add", "sub", "rsub", "mul", "div"))
"""Operators on signals that may take numbers."""


class Walk:
    """A tape as layers, for one meaning (`layout`) of the dimensions of its input `entry`."""

    def __init__(self, traced: Traced, layout: tuple[str, ...]) -> None:
        self.entry, self.layout, self.result = traced.entry, layout, traced.output
        self._others, self._carries = traced.others, bool(traced.states)
        self.steps = fused(traced.tape.steps, [traced.output, *traced.others])
        self._required = set(map(id, needed(self.steps, [traced.output])))
        sizes = [n for n, kind in zip(self.entry.shape, layout, strict=True) if kind == "feature"]
        self.graph = LayerGraph(math.prod(sizes))  # an id has no features, and is one value
        self.features = input_stream(layout, self.entry.shape)
        if "window" in layout:
            before, after = context_of(self.entry.shape[layout.index("window")])
            window = self.graph.window(INPUT, ContextWindow(before, after))
            self.features = dataclasses.replace(self.features, window=window)
        if len(sizes) > 1:
            node = self.graph.add(Unflatten(sizes[0]), INPUT)
            self.features = dataclasses.replace(self.features, node=node)
        carried = {id(value): Carried(value.name) for value in traced.states}
        self.found: dict[int, Any] = {id(self.entry): self.features, **carried}
        """What each value is: a stream, or something that no layer gives."""
        self._uses = Counter(id(value) for step in self.steps for value in step.inputs())

    @property
    def example(self) -> Tensor:
        """The input that the tape was made for."""
        return self.entry.tensor

    @property
    def expected(self) -> Tensor:
        """What the foreign model gives for the example."""
        return self.result.tensor

    @property
    def taken(self) -> Tensor:
        """The same input as the model takes it, [batch, frames, features]."""
        values = canonical(self.features.axes, self.example)
        if "window" not in self.layout:
            return values
        before, _ = context_of(self.example.shape[self.layout.index("window")])
        size = self.graph.signals[INPUT].size
        return values[..., before * size : (before + 1) * size]

    @property
    def frames(self) -> int:
        """The number of frames of the example."""
        return self.entry.shape[self.layout.index("time")]

    def model(self) -> Model:
        """The model. Raises ImporterError with the operator that no layer stands for.

        Afterwards `output` is the stream of the model's output.
        """
        for step in self.steps:
            try:
                self._follow(step)
            except (ImporterError, ModelError) as error:
                if id(step) in self._required or not self._carries:
                    raise ImporterError(f"{step.where}: {error}") from error
                self.found.update((id(value), Unusable(_MIXED)) for value in step.results)
        self.output = self._output()
        return self.graph.model(self.output.node)

    def uses_length(self) -> str | None:
        """The operator that computes with a number that is the number of frames, if there is one.

        A program for one number of frames has that number as a constant, like any other.
        """
        for step in self.steps:
            numbers = [abs(a) for a in step.arguments.values() if isinstance(a, int | float)]
            stream = self.found.get(id(step.results[0]))
            if isinstance(stream, Stream) and step.operator in _ON_NUMBERS:
                counts = [axis.size for dim in stream.axes for axis in dim if axis.kind == "time"]
                if any(math.isclose(n, x) for n in numbers for c in counts for x in (c, 1 / c)):
                    return step.where
        return None

    def _follow(self, step: Step) -> None:
        """Find what an operator gives."""
        arguments = mapped(self._known, step.arguments)
        inputs = [self._known(value) for value in step.inputs()]
        if (aside := _aside(inputs)) is not None:
            self.found.update((id(value), aside) for value in step.results)
            return
        _check_inputs(step.operator, inputs)
        if step.operator not in OPERATORS:
            raise ImporterError(UNSUPPORTED)
        self.graph.place = step.place
        first = next(step.inputs())
        only_use = self._uses[id(first)] == 1
        given = OPERATORS[step.operator](Call(self.graph, arguments, step.result, only_use))
        parts: Sequence[Any] = given if isinstance(given, tuple) else (given,)
        _check_shape(parts[0], step.results[0].tensor)
        for value, part in zip(step.results, parts, strict=False):
            self.found[id(value)] = part

    def _known(self, value: Value) -> Any:
        if id(value) not in self.found:
            raise ImporterError(f"depends on a second input, {value.name!r}")
        return self.found[id(value)]

    def _output(self) -> Stream:
        for value in (self.result, *self._others):
            output = self.found.get(id(value))
            is_state = isinstance(output, Unusable | States | Carried) and value is not self.result
            if not (self._carries and is_state):
                _check_output(output)
        if self._others and not self._carries:
            raise ImporterError(
                f"returns {1 + len(self._others)} values, expected one signal; "
                "wrap the module so that it returns its logits alone"
            )
        output = self.found[id(self.result)]
        stream = self.graph.finalize(self.graph.uncut(output))
        if stream.is_padded or stream.backwards:
            raise ImporterError(
                "returns padded, cut or reversed frames, expected the frames of a layer"
            )
        if stream.node == INPUT:
            raise ImporterError("returns its input; there is no layer to import")
        if _mixes(stream):
            raise ImporterError(f"returns frames and features in one dimension: {stream}")
        return stream


def _mixes(stream: Stream) -> bool:
    """Whether frames and features are in one dimension, other than all features of a frame after
    those of the frame before."""
    flat = [axis for dim in stream.axes for axis in dim]
    mixed = any({"time", "feature"} <= {axis.kind for axis in dim} for dim in stream.axes)
    return mixed and flat != in_order(flat)


def _check_shape(found: Any, computed: Tensor) -> None:
    """Raise ImporterError where a handler expects another shape than torch computes."""
    if isinstance(found, Stream) and found.shape != tuple(computed.shape):
        raise ImporterError(f"gives a tensor of shape {list(computed.shape)}, expected {found}")


def _aside(inputs: Sequence[Any]) -> Carried | Unusable | None:
    """What an operator gives that has states of recurrent layers as its inputs, and no signal."""
    if not any(isinstance(each, Carried | Unusable) for each in inputs):
        return None
    if any(isinstance(each, Stream) for each in inputs):
        return None
    carried = [each for each in inputs if isinstance(each, Carried)]
    unusable = [each for each in inputs if isinstance(each, Unusable)]
    return carried[0] if len(carried) == len(inputs) else (*unusable, Unusable(_MIXED))[0]


def _check_inputs(operator: str, inputs: Sequence[Any]) -> None:
    """Raise ImporterError where an operator on signals takes something that is none."""
    for each in inputs:
        if isinstance(each, Unusable):
            raise ImporterError(each.reason)
        if isinstance(each, Carried) and operator not in RECURRENT:
            raise ImporterError(
                f"joins the signal with the states in {each.name!r}, which only recurrent layers "
                "can take"
            )


_MIXED = "the states of recurrent layers are computed with, expected outputs alone"


def context_of(window: int) -> tuple[int, int]:
    """Frames before and after the present one in a window of so many: as many, or one more."""
    return window // 2, window - 1 - window // 2


def _check_output(output: Any) -> None:
    """Raise ImporterError where an output of the model is no signal."""
    if isinstance(output, Unusable):
        raise ImporterError(f"returns more than its outputs: {output.reason}")
    if isinstance(output, States):
        raise ImporterError(
            "returns final states of cells, or frames one by one, as a loop over frames gives "
            "them that is no recurrent layer; expected one signal"
        )
    if not isinstance(output, Stream):
        raise ImporterError("returns a constant, expected a signal")

"""One ONNX operator with its inputs, as the function that translates it sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tinyvox.errors import ImporterError
from tinyvox.importers.tape import Tape, Value

aten = torch.ops.aten

Given = Value | Tensor
"""What an operator takes and gives: a value, or a constant."""


@dataclass
class Findings:
    """What is found on the way through a graph, besides its tape."""

    tape: Tape
    notes: dict[str, None] = field(default_factory=dict)
    """What was taken in another way than the file says, each once, in order."""
    scales: set[float] = field(default_factory=set)
    """The scales of all weights that were quantized."""
    unscaled: dict[int, Callable[[Tensor], Given]] = field(default_factory=dict)
    """For the product of a signal and integer weights, by its `id`: the product with weights times
    a scale, which the graph multiplies it by later on."""
    parameters: int = 0
    """The number of weights that were read."""

    def scaled(self, scales: Tensor) -> None:
        """Note the scales of weights; they were read as if they were weights themselves."""
        self.scales.update(scales.flatten().tolist())
        self.parameters -= scales.numel()


@dataclass(frozen=True, eq=False)
class Operation:
    """An operator: what it is called, what it takes, and in which version of the set."""

    findings: Findings
    kind: str
    inputs: tuple[Given | None, ...]
    attributes: Mapping[str, Any]
    version: int
    outputs: int
    """How many outputs it is asked for."""

    def apply(self, target: OpOverload, *args: Any, **kwargs: Any) -> Given:
        """What an ATen operator of one result gives."""
        found: Given = self.findings.tape.apply(target, *args, **kwargs)
        return found

    def note(self, text: str) -> None:
        """Something to tell the user."""
        self.findings.notes[text] = None

    def optional(self, index: int) -> Given | None:
        """An input, or None where it is not given."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Given:
        """An input. Raises ImporterError where it is not given."""
        found = self.optional(index)
        if found is None:
            raise ImporterError(f"has no input {index}; the graph is damaged")
        return found

    def constant(self, index: int) -> Tensor:
        """An input that must be a constant. Raises ImporterError where it is not."""
        found = self.input(index)
        if isinstance(found, Value):
            raise ImporterError(
                f"its input {index} depends on the model's input, expected a constant"
            )
        return found

    def given(self, index: int) -> bool:
        """Whether there is such an input."""
        return self.optional(index) is not None

    def numbers(self, index: int) -> list[int]:
        """An input that must be a constant list of whole numbers."""
        found = self.constant(index)
        if found.is_floating_point() or found.numel() > _LONGEST:
            raise ImporterError(f"its input {index} is {found.dtype}, expected whole numbers")
        return [int(number) for number in found.flatten()]

    def get(self, name: str, default: Any) -> Any:
        """An attribute. Raises ImporterError where it is not of the default's type."""
        found = self.attributes.get(name, default)
        kind = type(default)
        if default is not None and not isinstance(found, kind):
            raise ImporterError(
                f"attribute {name} is {type(found).__name__}, expected {kind.__name__}"
            )
        return found

    def integers(self, name: str) -> list[int] | None:
        """An attribute that is a list of whole numbers, or None."""
        found = self.attributes.get(name)
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
            raise ImporterError(f"attribute {name} is {found!r}, expected whole numbers")
        return list(found)

    def axes(self, index: int) -> list[int] | None:
        """The axes, which older versions have as an attribute and newer ones as an input."""
        return self.numbers(index) if self.given(index) else self.integers("axes")

    def size(self, given: Given, axis: int) -> int:
        """The size of a dimension. Raises ImporterError where there is no such."""
        return int(given.shape[dimension(given, axis)])

    def reshape(self, given: Given, shape: Sequence[int]) -> Given:
        """Another shape for the same values; the very same where it has it."""
        if list(given.shape) == list(shape):
            return given
        return self.apply(aten.reshape.default, given, list(shape))


_LONGEST = 1 << 16
"""Numbers in a list of sizes, axes or places."""


def dimension(given: Given, axis: int) -> int:
    """A dimension counted from the front. Raises ImporterError where there is no such."""
    rank = len(given.shape)
    if not -rank <= axis < rank:
        raise ImporterError(f"dimension {axis} of a tensor of shape {list(given.shape)}")
    return axis % rank


def is_float(given: Given) -> bool:
    """Whether the values are float32."""
    return (given.tensor if isinstance(given, Value) else given).is_floating_point()


def number(given: Given | None) -> float | None:
    """The number in a constant of one element; None for anything else."""
    if not isinstance(given, Tensor) or given.numel() != 1:
        return None
    return float(given.flatten()[0])

"""What patterns of operators are found by: the steps that give values, their constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tinyvox.importers.tape import Step, Value

Producers = Mapping[int, Step]
"""The step that gives each value, by the value's `id`."""
Found = tuple[str, dict[str, Any]] | None
"""An operator and its arguments."""


def made_by(value: Any, operator: str, made: Producers) -> Step | None:
    """The step that gives a value, if it is this operator."""
    step = made.get(id(value)) if isinstance(value, Value) else None
    return step if step and step.operator == operator else None


def sides(step: Step) -> list[Any]:
    """The two arguments of a sum or a product."""
    return [step.arguments["self"], step.arguments["other"]]


def signal(step: Step) -> Any:
    """The one signal of two arguments, or None."""
    found = [each for each in sides(step) if isinstance(each, Value)]
    return found[0] if len(found) == 1 else None


def constant(step: Step) -> float | None:
    """The one number of two arguments, or None."""
    return next((n for n in map(number, sides(step)) if n is not None), None)


def plus(step: Step | None, added: float) -> Any:
    """What a step adds this constant to, or None."""
    if step is None or step.arguments.get("alpha", 1) != 1 or constant(step) != added:
        return None
    return signal(step)


def number(argument: Any) -> float | None:
    """An argument that is one number, or None."""
    if isinstance(argument, Tensor) and argument.numel() == 1:
        return float(argument)
    return float(argument) if isinstance(argument, int | float) else None

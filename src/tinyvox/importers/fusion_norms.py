"""Norms of each frame that a graph writes step by step: found again as one operator.

`x / sqrt(mean(x ** 2) + eps)`, `x / x.norm()`, `(x - mean(x)) / (x.std() + eps)` and the like
become a `frame_norm`, whose handler is in `operators.norms`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tinyvox.importers.matching import Found, Producers, constant, made_by, number, sides, signal
from tinyvox.importers.tape import Step, Value


@dataclass(frozen=True)
class Spread:
    """How far the values of `source` spread over `dims`, as a graph computes it.

    It is the root, if `is_root`, of `factor` times the mean of squares plus `eps`; with `centered`
    the squares are those of the values without their mean.
    """

    source: Value
    dims: tuple[int, ...]
    centered: bool
    factor: float
    eps: float = 0.0
    is_root: bool = False

    @property
    def count(self) -> int:
        """How many values spread."""
        return math.prod(self.source.shape[dim] for dim in self.dims)


def divided(step: Step, made: Producers) -> Found:
    """A signal divided by its spread."""
    below = _spread(step.arguments["other"], made)
    return _norm(step.arguments["self"], below, made) if below and below.is_root else None


def multiplied(step: Step, made: Producers) -> Found:
    """A signal times the inverse of its spread."""
    for one, other in (sides(step), sides(step)[::-1]):
        below = _inverse(other, made)
        found = _norm(one, below, made) if below else None
        if found:
            return found
    return None


def _norm(above: Any, below: Spread, made: Producers) -> Found:
    """What is normalized must be what the spread is of, or that times a constant."""
    weight = None
    product = made_by(above, "mul", made)
    if product and above is not below.source and signal(product) is not None:
        weight, above = _other_constant(product), signal(product)
    if below.centered:
        above = _centered(above, below, made)
    if above is not below.source:
        return None
    arguments = {
        "input": above,
        "dims": list(below.dims),
        "kind": "layer" if below.centered else "rms",
        "eps": below.eps / below.factor,
        "factor": below.factor**-0.5,
        "weight": weight,
    }
    return "frame_norm", arguments


def _other_constant(step: Step) -> Tensor:
    found = next(each for each in sides(step) if not isinstance(each, Value))
    return torch.as_tensor(found, dtype=torch.float32)


def _centered(value: Any, below: Spread, made: Producers) -> Any:
    """What a value is without its mean over the same dimensions, or None."""
    step = made_by(value, "sub", made)
    if not step or step.arguments.get("alpha", 1) != 1:
        return None
    mean = _over(_unspread(step.arguments["other"], made), "mean", made)
    source = step.arguments["self"]
    return source if mean == (source, below.dims) else None


def _over(value: Any, operator: str, made: Producers) -> tuple[Any, tuple[int, ...]] | None:
    """What a reduction is of, and its dimensions, if this operator gives the value."""
    step = made_by(value, operator, made)
    if not step:
        return None
    source, dims = step.arguments.get("self"), step.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or ())
    if not isinstance(source, Value) or not dims:
        return None
    return source, tuple(sorted(dim % len(source.shape) for dim in dims))


def _unspread(value: Any, made: Producers) -> Any:
    """A value before it is repeated, or gets a dimension of size 1 back."""
    for operator in ("expand", "expand_as", "unsqueeze"):
        step = made_by(value, operator, made)
        if step:
            return _unspread(step.arguments["self"], made)
    return value


def _spread(value: Any, made: Producers) -> Spread | None:
    """The spread that a value is, if it is one."""
    value = _unspread(value, made)
    step = made.get(id(value)) if isinstance(value, Value) else None
    reader = _READERS.get(step.operator) if step else None
    return reader(step, made) if reader and step else None


def _inverse(value: Any, made: Producers) -> Spread | None:
    """The spread that a value is the inverse of, if it is one."""
    value = _unspread(value, made)
    step = made.get(id(value)) if isinstance(value, Value) else None
    if step is None:
        return None
    if step.operator == "rsqrt" or (step.operator == "pow" and _exponent(step) == -0.5):
        return _root(_spread(step.arguments["self"], made))
    if step.operator == "reciprocal" or (step.operator == "pow" and _exponent(step) == -1):
        return _spread(step.arguments["self"], made)
    return None


def _exponent(step: Step) -> float | None:
    return number(step.arguments["exponent"])


def _root(found: Spread | None) -> Spread | None:
    return replace(found, is_root=True) if found and not found.is_root else None


def _read_root(step: Step, made: Producers) -> Spread | None:
    if step.operator == "pow" and _exponent(step) != 0.5:
        return None
    return _root(_spread(step.arguments["self"], made))


def _read_offset(step: Step, made: Producers) -> Spread | None:
    """A spread plus eps, or at least eps. Where it is a root already, eps matters only where the
    spread is near 0: its square is added before the root."""
    if step.operator == "add" and step.arguments.get("alpha", 1) != 1:
        return None
    source = signal(step) if step.operator in ("add", "maximum") else step.arguments["self"]
    found = _spread(source, made)
    least = constant(step) if step.operator in ("add", "maximum") else number(step.arguments["min"])
    upper = step.arguments.get("max") is not None
    if not found or least is None or upper or not 0 <= least < _SMALL:
        return None
    return replace(found, eps=found.eps + (least**2 if found.is_root else least))


_SMALL = 0.01
"""An eps above this changes what is not near 0, too."""


def _read_mean(step: Step, made: Producers) -> Spread | None:
    """The mean of squares, or their sum."""
    found = _over(step.results[0], step.operator, made)
    base = _squared(found[0], made) if found else None
    if not found or base is None:
        return None
    spread = Spread(base, found[1], False, 1.0)
    if step.operator == "sum":
        spread = replace(spread, factor=float(spread.count))
    centered = made_by(base, "sub", made)
    source = centered.arguments["self"] if centered else None
    if isinstance(source, Value) and _centered(base, replace(spread, source=source), made):
        return replace(spread, source=source, centered=True)
    return spread


def _squared(value: Any, made: Producers) -> Value | None:
    """What a value is the square of, or None."""
    power, product = made_by(value, "pow", made), made_by(value, "mul", made)
    square = made_by(value, "square", made)
    base: Any = None
    if power and number(power.arguments["exponent"]) == 2:
        base = power.arguments["self"]
    elif square:
        base = square.arguments["self"]
    elif product and product.arguments["self"] is product.arguments["other"]:
        base = product.arguments["self"]
    absolute = made_by(base, "abs", made)
    base = absolute.arguments["self"] if absolute else base
    return base if isinstance(base, Value) else None


def _read_norm(step: Step, made: Producers) -> Spread | None:
    found = _over(step.results[0], step.operator, made)
    order = next((step.arguments[k] for k in ("ord", "p") if step.arguments.get(k) is not None), 2)
    if not found or order not in (2, "fro"):
        return None
    spread = Spread(found[0], found[1], False, 1.0, is_root=True)
    return replace(spread, factor=float(spread.count))


def _read_variance(step: Step, made: Producers) -> Spread | None:
    found = _over(step.results[0], step.operator, made)
    if not found:
        return None
    given = step.arguments.get("correction", step.arguments.get("unbiased", True))
    correction = 1.0 if given is None else float(given)
    spread = Spread(found[0], found[1], True, 1.0, is_root=step.operator == "std")
    if spread.count <= correction:
        return None
    return replace(spread, factor=spread.count / (spread.count - correction))


_READERS = {
    "sqrt": _read_root,
    "pow": _read_root,
    **dict.fromkeys(("add", "maximum", "clamp", "clamp_min"), _read_offset),
    **dict.fromkeys(("mean", "sum"), _read_mean),
    **dict.fromkeys(("linalg_vector_norm", "linalg_norm", "norm"), _read_norm),
    **dict.fromkeys(("var", "std"), _read_variance),
}
"""What each operator makes of a spread, or of a signal."""

"""Layers that a graph writes as single operators: found again, one operator for each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tinyvox.importers.tape import Step, Value, needed

aten = torch.ops.aten

Producers = Mapping[int, Step]
"""The step that gives each value, by the value's `id`."""


def fused(steps: Sequence[Step], outputs: Sequence[Value]) -> list[Step]:
    """The steps that the outputs depend on, each pattern of them as the operator it stands for."""
    made = {id(value): step for step in steps for value in step.results}
    return needed([_replaced(step, made) for step in steps], outputs)


def _replaced(step: Step, made: Producers) -> Step:
    for pattern in _PATTERNS.get(step.operator, ()):
        found = pattern(step, made)
        if found is not None:
            operator, arguments = found
            return dataclasses.replace(step, operator=operator, arguments=arguments)
    return step


Found = tuple[str, dict[str, Any]] | None
"""An operator and its arguments."""


def _gelu(step: Step, made: Producers) -> Found:
    """`0.5 x (1 + erf(x / sqrt(2)))`, the factors in any order."""
    for factors in _factors(step, made):
        constant = math.prod(n for n in map(number, factors) if n is not None)
        signals = [each for each in factors if isinstance(each, Value)]
        if len(signals) != 2 or not math.isclose(constant, 0.5):
            continue
        for x, other in (signals, signals[::-1]):
            inner = _plus(_made(other, "add", made), 1.0)
            erf = _made(inner, "erf", made)
            if erf and _is_scaled(erf.arguments["self"], x, made):
                return "gelu", {"self": x, "approximate": "none"}
    return None


def _factors(step: Step, made: Producers) -> Iterator[list[Any]]:
    """The factors of a product, each of the two taken apart or not."""
    pair = [step.arguments["self"], step.arguments["other"]]
    apart = [_product(each, made) for each in pair]
    for one in ([pair[0]], apart[0]):
        for two in ([pair[1]], apart[1]):
            yield [*one, *two]


def _product(value: Any, made: Producers) -> list[Any]:
    step = _made(value, "mul", made)
    return [step.arguments["self"], step.arguments["other"]] if step else [value]


def _is_scaled(value: Any, x: Value, made: Producers) -> bool:
    """Whether a value is `x / sqrt(2)`, written as quotient or as product."""
    quotient, product = _made(value, "div", made), _made(value, "mul", made)
    if quotient and quotient.arguments["self"] is x:
        factor = 1 / (number(quotient.arguments["other"]) or math.inf)
    elif product and x in _sides(product):
        factor = next(filter(None, map(number, _sides(product))), 0.0)
    else:
        return False
    return math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5)


def _layer_norm(step: Step, made: Producers) -> Found:
    """`(x - mean) / sqrt(mean((x - mean) ** 2) + eps)`, over the last dimension."""
    centered, below = step.arguments["self"], step.arguments["other"]
    root = _made(below, "sqrt", made)
    shifted = _made(root and root.arguments["self"], "add", made)
    minus = _made(centered, "sub", made)
    if not shifted or not minus:
        return None
    x, eps = minus.arguments["self"], _constant(shifted)
    variance = _mean_of(_signal(shifted), made)
    if eps is None or _mean_of(minus.arguments["other"], made) is not x or not variance:
        return None
    if not _is_square(variance, centered, x, made):
        return None
    arguments = {"input": x, "normalized_shape": [x.shape[-1]], "eps": eps}
    return "layer_norm", {**arguments, "weight": None, "bias": None}


def _is_square(value: Value, centered: Value, x: Value, made: Producers) -> bool:
    """Whether a value is the square of `x` without its mean."""
    power, product = _made(value, "pow", made), _made(value, "mul", made)
    if power and number(power.arguments["exponent"]) == 2:
        base = power.arguments["self"]
    elif product and product.arguments["self"] is product.arguments["other"]:
        base = product.arguments["self"]
    else:
        return False
    minus = _made(base, "sub", made)
    same = minus and minus.arguments["self"] is x and _mean_of(minus.arguments["other"], made) is x
    return base is centered or bool(same)


def _mean_of(value: Any, made: Producers) -> Any:
    """What a value is the mean of, over the last dimension, which is kept."""
    step = _made(value, "mean", made)
    if not step or not step.arguments.get("keepdim"):
        return None
    source = step.arguments["self"]
    dims = [dim % len(source.shape) for dim in step.arguments.get("dim") or ()]
    return source if dims == [len(source.shape) - 1] else None


def _softsign(step: Step, made: Producers) -> Found:
    """`x / (1 + |x|)`."""
    x, below = step.arguments["self"], step.arguments["other"]
    absolute = _made(_plus(_made(below, "add", made), 1.0), "abs", made)
    return ("softsign", {"self": x}) if absolute and absolute.arguments["self"] is x else None


def _softplus(step: Step, made: Producers) -> Found:
    """`x` where it is so large that `softplus(x)` is `x`, else `softplus(x)`."""
    x = step.arguments["self"]
    larger = _made(step.arguments["condition"], "gt", made)
    inner = _made(step.arguments["other"], "softplus", made)
    if not larger or not inner or larger.arguments["self"] is not x:
        return None
    if inner.arguments["self"] is not x or (number(larger.arguments["other"]) or 0) < _LINEAR:
        return None
    return "softplus", dict(inner.arguments)


_LINEAR = 15
"""From here on softplus adds less than a float32 resolves."""


def _made(value: Any, operator: str, made: Producers) -> Step | None:
    """The step that gives a value, if it is this operator."""
    step = made.get(id(value)) if isinstance(value, Value) else None
    return step if step and step.operator == operator else None


def _sides(step: Step) -> list[Any]:
    return [step.arguments["self"], step.arguments["other"]]


def _signal(step: Step) -> Any:
    """The one signal of two arguments, or None."""
    found = [each for each in _sides(step) if isinstance(each, Value)]
    return found[0] if len(found) == 1 else None


def _constant(step: Step) -> float | None:
    """The one number of two arguments, or None."""
    return next((n for n in map(number, _sides(step)) if n is not None), None)


def _plus(step: Step | None, constant: float) -> Any:
    """What a step adds this constant to, or None."""
    if step is None or step.arguments.get("alpha", 1) != 1 or _constant(step) != constant:
        return None
    return _signal(step)


def number(argument: Any) -> float | None:
    """An argument that is one number, or None."""
    if isinstance(argument, Tensor) and argument.numel() == 1:
        return float(argument)
    return float(argument) if isinstance(argument, int | float) else None


_PATTERNS: dict[str, tuple[Callable[[Step, Producers], Found], ...]] = {
    "mul": (_gelu,),
    "div": (_layer_norm, _softsign),
    "where": (_softplus,),
}
"""The patterns that may end with each operator."""

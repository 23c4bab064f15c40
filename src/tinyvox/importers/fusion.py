"""Layers that a graph writes as single operators: found again, one operator for each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinyvox.importers import fusion_norms
from tinyvox.importers.matching import Found, Producers, made_by, number, plus, sides
from tinyvox.importers.tape import Step, Value, needed


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


def _gelu(step: Step, made: Producers) -> Found:
    """`0.5 x (1 + erf(x / sqrt(2)))`, the factors in any order."""
    for factors in _factors(step, made):
        constant = math.prod(n for n in map(number, factors) if n is not None)
        signals = [each for each in factors if isinstance(each, Value)]
        if len(signals) != 2 or not math.isclose(constant, 0.5):
            continue
        for x, other in (signals, signals[::-1]):
            inner = plus(made_by(other, "add", made), 1.0)
            erf = made_by(inner, "erf", made)
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
    step = made_by(value, "mul", made)
    return [step.arguments["self"], step.arguments["other"]] if step else [value]


def _is_scaled(value: Any, x: Value, made: Producers) -> bool:
    """Whether a value is `x / sqrt(2)`, written as quotient or as product."""
    quotient, product = made_by(value, "div", made), made_by(value, "mul", made)
    if quotient and quotient.arguments["self"] is x:
        factor = 1 / (number(quotient.arguments["other"]) or math.inf)
    elif product and x in sides(product):
        factor = next(filter(None, map(number, sides(product))), 0.0)
    else:
        return False
    return math.isclose(factor, math.sqrt(0.5), rel_tol=1e-5)


def _softsign(step: Step, made: Producers) -> Found:
    """`x / (1 + |x|)`."""
    x, below = step.arguments["self"], step.arguments["other"]
    absolute = made_by(plus(made_by(below, "add", made), 1.0), "abs", made)
    return ("softsign", {"self": x}) if absolute and absolute.arguments["self"] is x else None


def _softplus(step: Step, made: Producers) -> Found:
    """`x` where it is so large that `softplus(x)` is `x`, else `softplus(x)`."""
    x = step.arguments["self"]
    larger = made_by(step.arguments["condition"], "gt", made)
    inner = made_by(step.arguments["other"], "softplus", made)
    if not larger or not inner or larger.arguments["self"] is not x:
        return None
    if inner.arguments["self"] is not x or (number(larger.arguments["other"]) or 0) < _LINEAR:
        return None
    return "softplus", dict(inner.arguments)


_LINEAR = 15
"""From here on softplus adds less than a float32 resolves."""


def _gated(step: Step, made: Producers) -> Found:
    """A signal times its own sigmoid, or another gate of its own."""
    for x, gate in (sides(step), sides(step)[::-1]):
        opened = made.get(id(gate)) if isinstance(x, Value) else None
        kind = _GATED.get(opened.operator) if opened else None
        if kind and opened and opened.arguments["self"] is x:
            return kind, {"self": x}
        inner = made_by(gate, "tanh", made)
        softplus = made_by(inner and inner.arguments["self"], "softplus", made)
        if softplus and softplus.arguments["self"] is x and softplus.arguments["beta"] == 1:
            return "mish", {"self": x}
    return None


_GATED = {"sigmoid": "silu", "hardsigmoid": "hardswish"}
"""What a signal times a function of itself is."""


_PATTERNS: dict[str, tuple[Callable[[Step, Producers], Found], ...]] = {
    "mul": (_gelu, _gated, fusion_norms.multiplied),
    "div": (fusion_norms.divided, _softsign),
    "where": (_softplus,),
}
"""The patterns that may end with each operator."""

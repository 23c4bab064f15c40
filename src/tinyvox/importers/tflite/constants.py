"""Operators on constants: shapes, counts and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tflite.translation import Context, Translator


def _shape(c: Context) -> Any:
    return torch.tensor(list(c.given(0).shape), dtype=torch.int64)


def _fill(c: Context) -> Any:
    return torch.full(bounded(c.numbers(0)), float(c.constant(1)))


def bounded(shape: list[int]) -> list[int]:
    """The shape of a constant. Raises ImporterError where it is too large."""
    count = 1
    for size in shape:
        count *= size
    if min(shape, default=0) < 0 or count > 1 << 24:
        raise ImporterError(f"makes a constant of shape {shape}, which is too large")
    return shape


def _range(c: Context) -> Any:
    first, last, step = (float(c.constant(i)) for i in range(3))
    if step == 0 or abs((last - first) / step) > 1 << 20:
        raise ImporterError(f"counts from {first} to {last} by {step}")
    dtype = c.constant(0).dtype
    return torch.arange(first, last, step).to(dtype)


def _cast(c: Context) -> Any:
    value = c.given(0)
    return value.clone() if isinstance(value, Tensor) else value


def _compared(compare: Callable[[Tensor, Tensor], Tensor]) -> Translator:
    return lambda c: compare(c.constant(0), c.constant(1))


def _folded(compute: Callable[..., Tensor]) -> Translator:
    def translate(c: Context) -> Any:
        return compute(*(c.constant(i) for i in range(len(c.inputs))))

    return translate


def _chosen(c: Context) -> Any:
    """Where a constant condition chooses between two tensors."""
    condition = c.constant(0)
    if bool(condition.all()):
        return c.given(1)
    if not bool(condition.any()):
        return c.given(2)
    if isinstance(c.given(1), Tensor) and isinstance(c.given(2), Tensor):
        return torch.where(condition, c.given(1), c.given(2))
    raise ImporterError(
        "takes some values from one signal, some from another; expected one of them"
    )


CONSTANTS: dict[str, Translator] = {
    "CAST": _cast,
    "EQUAL": _compared(torch.eq),
    "FILL": _fill,
    "FLOOR_DIV": _folded(lambda a, b: torch.div(a, b, rounding_mode="floor")),
    "GREATER": _compared(torch.gt),
    "GREATER_EQUAL": _compared(torch.ge),
    "LESS": _compared(torch.lt),
    "LESS_EQUAL": _compared(torch.le),
    "LOGICAL_AND": _compared(torch.logical_and),
    "LOGICAL_NOT": _folded(torch.logical_not),
    "LOGICAL_OR": _compared(torch.logical_or),
    "RANGE": _range,
    "RSQRT": _folded(torch.rsqrt),
    "SELECT": _chosen,
    "SELECT_V2": _chosen,
    "SHAPE": _shape,
}
"""What translates each of them, by its name."""

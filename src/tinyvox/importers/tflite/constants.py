"""Operators on constants: shapes, counts and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tflite.translation import Context, Translator


def _shape(c: Context) -> Any:
    return torch.tensor(list(c.given(0).shape), dtype=torch.int64)


def _fill(c: Context) -> Any:
    return torch.full(shared.bounded(c.numbers(0)), float(c.constant(1)))


def _range(c: Context) -> Any:
    return shared.counted(c.constant(0), c.constant(1), c.constant(2))


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
    return shared.chosen(c.constant(0), c.given(1), c.given(2))


def _over_all(compute: Callable[..., Tensor]) -> Translator:
    """A reduction of a constant over the dimensions that a second constant names."""

    def translate(c: Context) -> Any:
        value, dims = c.constant(0), sorted(c.numbers(1), reverse=True)
        keep = bool(c.options("ReducerOptions").KeepDims())
        for dim in dims:
            value = compute(value, dim, keepdim=keep)
        return value

    return translate


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
    "SELECT": _chosen,
    "SELECT_V2": _chosen,
    "SHAPE": _shape,
    "CEIL": _folded(torch.ceil),
    "FLOOR": _folded(torch.floor),
    "FLOOR_MOD": _folded(torch.remainder),
    "NOT_EQUAL": _compared(torch.ne),
    "REDUCE_ALL": _over_all(torch.all),
    "REDUCE_ANY": _over_all(torch.any),
    "REDUCE_PROD": _over_all(torch.prod),
}
"""What translates each of them, by its name."""

"""Operators on constants: shapes, counts and conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers import tensorflow as shared
from tinyvox.importers.tf_graph.graph import FREEZE
from tinyvox.importers.tf_graph.scopes import DEAD, is_true
from tinyvox.importers.tf_graph.translation import Context, Translator
from tinyvox.importers.tf_tensors import FLOATS

aten = torch.ops.aten


_BOOL = 10


def _folded(compute: Callable[..., Tensor]) -> Translator:
    def translate(c: Context) -> Any:
        values = [c.constant(i) for i in range(len(c.inputs))]
        for value in values[1:]:
            shared.bounded(np.broadcast_shapes(values[0].shape, value.shape))
        return compute(*values)

    return translate


def _filled(c: Context) -> Any:
    return c.constant(1).reshape(()).expand(shared.bounded(c.numbers(0))).clone()


def _like(number: int) -> Translator:
    def translate(c: Context) -> Any:
        return torch.full(shared.bounded(list(c.given(0).shape)), number, dtype=_dtype(c))

    return translate


def _dtype(c: Context) -> torch.dtype:
    kind = c.attribute("T").whole
    return torch.float32 if kind in FLOATS else torch.bool if kind == _BOOL else torch.int64


def _cast(c: Context) -> Any:
    value, kind = c.given(0), c.attribute("DstT").whole
    if isinstance(value, Tensor):
        whole = torch.bool if kind == _BOOL else torch.int64
        return value.to(torch.float32 if kind in FLOATS else whole)
    if kind not in FLOATS:
        raise ImporterError("rounds a signal to whole numbers, expected real ones")
    return value


def _chosen(c: Context) -> Any:
    return shared.chosen(c.constant(0), c.given(1), c.given(2))


def _switch(c: Context) -> Any:
    return (DEAD, c.given(0)) if is_true(c.given(1)) else (c.given(0), DEAD)


def _shape(c: Context) -> Any:
    return torch.tensor(list(c.given(0).shape), dtype=torch.int64)


def _placeholder(c: Context) -> Any:
    raise ImporterError("needs a value that is no features; freeze the graph with it as a constant")


def _variable(c: Context) -> Any:
    raise ImporterError(f"is a variable, whose values are not in the graph; {FREEZE}")


CONSTANTS: dict[str, Translator] = {
    "Cast": _cast,
    "Equal": _folded(torch.eq),
    "Fill": _filled,
    "FloorDiv": _folded(lambda a, b: torch.div(a, b, rounding_mode="floor")),
    "FloorMod": _folded(torch.remainder),
    "Greater": _folded(torch.gt),
    "GreaterEqual": _folded(torch.ge),
    "Less": _folded(torch.lt),
    "LessEqual": _folded(torch.le),
    "LogicalAnd": _folded(torch.logical_and),
    "LogicalNot": _folded(torch.logical_not),
    "LogicalOr": _folded(torch.logical_or),
    "NotEqual": _folded(torch.ne),
    "OnesLike": _like(1),
    "Placeholder": _placeholder,
    "Range": lambda c: shared.counted(c.constant(0), c.constant(1), c.constant(2)),
    "Rank": lambda c: torch.tensor(len(c.given(0).shape)),
    "Rsqrt": _folded(torch.rsqrt),
    "Select": _chosen,
    "SelectV2": _chosen,
    "Shape": _shape,
    "Size": lambda c: _shape(c).prod(),
    "Switch": _switch,
    **dict.fromkeys(("VarHandleOp", "Variable", "VariableV2"), _variable),
    "ZerosLike": _like(0),
}
"""What translates each of them, by its name."""

"""Loops and what they fill: TensorFlow 1's tensor arrays, TensorFlow 2's tensor lists."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_graph.scopes import is_true
from tinyvox.importers.tf_graph.translation import Context, Rows, Translator

aten = torch.ops.aten
_MAX_ROWS = 1 << 16


def _made(count: int) -> Rows:
    if not 0 <= count <= _MAX_ROWS:
        raise ImporterError(f"makes an array of {count} tensors, which is too large")
    return Rows((None,) * count)


def _array(c: Context) -> Any:
    """A tensor array: its handle, and the flow, which here holds what is in it."""
    rows = _made(c.number(0))
    return rows, rows


def _taken(c: Context, rows: tuple[Any, ...], index: int) -> Any:
    if not 0 <= index < len(rows) or rows[index] is None:
        raise ImporterError(f"takes tensor {index} of {len(rows)}, which is not there")
    return rows[index]


def _set(rows: tuple[Any, ...], index: int, value: Any) -> Rows:
    if not 0 <= index < len(rows):
        raise ImporterError(f"sets tensor {index} of {len(rows)}")
    return Rows((*rows[:index], value, *rows[index + 1 :]))


def _parts(c: Context, value: Any) -> tuple[Any, ...]:
    """A tensor row by row."""
    if isinstance(value, Rows) or not len(value.shape):
        raise ImporterError("takes no tensor apart; the file is damaged")
    return tuple(c.tape.apply(aten.unbind.int, value, 0)) if value.shape[0] else ()


def _whole(c: Context, rows: tuple[Any, ...]) -> Any:
    """The rows as one tensor."""
    if not rows or any(row is None for row in rows):
        raise ImporterError("joins tensors of which some are not there")
    return c.tape.apply(aten.stack.default, list(rows), 0)


def _scatter(c: Context) -> Any:
    """`TensorArrayScatterV3(handle, indices, value, flow)`."""
    found, indices, parts = Rows(c.rows(3)), c.numbers(1), _parts(c, c.given(2))
    if len(indices) != len(parts):
        raise ImporterError(f"fills {len(indices)} tensors with {len(parts)}")
    for index, part in zip(indices, parts, strict=True):
        found = _set(found.parts, index, part)
    return found


def _gather(c: Context) -> Any:
    """`TensorArrayGatherV3(handle, indices, flow)`."""
    return _whole(c, tuple(_taken(c, c.rows(2), index) for index in c.numbers(1)))


def _stacked(c: Context) -> Any:
    return _whole(c, c.rows(0))


def _length(rows: tuple[Any, ...]) -> Tensor:
    return torch.tensor(len(rows))


def _while(c: Context) -> Any:
    """A loop, run round by round; what it counts must be constants."""
    condition, body = (c.attribute(name).function for name in ("cond", "body"))
    values = tuple(c.inputs)
    while is_true(c.call(condition, values)[0]):
        values = c.call(body, values)
    return values


def _if(c: Context) -> Any:
    branch = "then_branch" if is_true(c.given(0)) else "else_branch"
    return c.call(c.attribute(branch).function, c.inputs[1:])


ARRAYS: dict[str, Translator] = {
    "If": _if,
    "PartitionedCall": lambda c: c.call(c.attribute("f").function, c.inputs),
    "StatefulPartitionedCall": lambda c: c.call(c.attribute("f").function, c.inputs),
    "StatelessIf": _if,
    "StatelessWhile": _while,
    "TensorArrayGatherV3": _gather,
    "TensorArrayReadV3": lambda c: _taken(c, c.rows(2), c.number(1)),
    "TensorArrayScatterV3": _scatter,
    "TensorArraySizeV3": lambda c: _length(c.rows(1)),
    "TensorArrayV3": _array,
    "TensorArrayWriteV3": lambda c: _set(c.rows(3), c.number(1), c.given(2)),
    "TensorListFromTensor": lambda c: Rows(_parts(c, c.given(0))),
    "TensorListGetItem": lambda c: _taken(c, c.rows(0), c.number(1)),
    "TensorListLength": lambda c: _length(c.rows(0)),
    "TensorListReserve": lambda c: _made(c.number(1)),
    "TensorListSetItem": lambda c: _set(c.rows(0), c.number(1), c.given(2)),
    "TensorListStack": _stacked,
    "While": _while,
}
"""What translates each operator of loops and arrays, by its name."""

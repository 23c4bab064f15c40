"""ATen operators that choose among values by constants: masks by length, orders of utterances.

Where every utterance has all frames, they change nothing; that is all that is supported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.operators.call import Call
from tinyvox.importers.reduction import States
from tinyvox.importers.signal import Stream

_EXAMPLE = "give an example in which every utterance has all frames"


def masked_fill(call: Call) -> Stream:
    """`masked_fill(mask, value)` by a mask that fills nothing."""
    if _condition(call, "mask").any():
        raise ImporterError(f"fills a part of its values, by a mask; {_EXAMPLE}")
    return _as_it_was(call, "self")


def where(call: Call) -> Stream:
    """`where(condition, self, other)` of which one side is taken as a whole."""
    condition = _condition(call, "condition")
    if bool(condition.any()) != bool(condition.all()):
        raise ImporterError(f"takes a part of its values, by a mask; {_EXAMPLE}")
    return _as_it_was(call, "self" if condition.all() else "other")


def index_select(call: Call) -> Stream | States:
    """`index_select(dim, index)` of all in their order, as utterances are that were sorted."""
    return _all_of(call, call["dim"], call["index"])


def index(call: Call) -> Stream | States:
    """`index(indices)` by one index of all in their order."""
    given = [(dim, each) for dim, each in enumerate(call["indices"]) if each is not None]
    if len(given) != 1:
        raise ImporterError(f"takes values by {len(given)} indices, expected one of all in order")
    return _all_of(call, *given[0])


def _all_of(call: Call, dim: int, chosen: Any) -> Stream | States:
    given = call["self"]
    size = call.result.shape[dim]
    if not isinstance(chosen, Tensor) or not torch.equal(chosen, torch.arange(size)):
        raise ImporterError("takes values by an index, expected one of all in their order")
    return given if isinstance(given, States) else _as_it_was(call, "self")


def _condition(call: Call, name: str) -> Tensor:
    mask = call[name]
    if not isinstance(mask, Tensor):
        raise ImporterError("chooses by a mask that depends on the values of the input")
    return mask


def _as_it_was(call: Call, name: str) -> Stream:
    stream = call.stream(name)
    if tuple(call.result.shape) != stream.shape:
        raise ImporterError(f"repeats {stream} to the shape {list(call.result.shape)} of a mask")
    return stream


MASKS: dict[str, Callable[[Call], Any]] = {
    "masked_fill": masked_fill,
    "where": where,
    "index_select": index_select,
    "index": index,
}
"""The handler of every operator that chooses by constants, by its name without overload."""

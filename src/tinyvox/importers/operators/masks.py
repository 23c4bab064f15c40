"""ATen operators that choose among values by constants: masks by length, orders of utterances.

Where every utterance has all frames, they change nothing; that is all that is supported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.final_states import States
from tinyvox.importers.operators.call import Call
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


def all_of(call: Call, dim: int, chosen: Any) -> Stream | States | None:
    """What an index takes values of, where it takes all in their order, as of utterances that were
    sorted; else None."""
    given, size = call["self"], call.result.shape[dim]
    is_all = isinstance(chosen, Tensor) and torch.equal(chosen, torch.arange(size))
    if not is_all or isinstance(given, States):
        return given if is_all else None
    return given if tuple(call.result.shape) == given.shape else None


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
}
"""The handler of every operator that chooses by constants, by its name without overload."""

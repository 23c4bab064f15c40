"""What a module gives: its outputs by name, and which of them becomes the model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tinyvox.errors import ImporterError
from tinyvox.importers.tape import Value


def named(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors among outputs of any form, each with the keys or places that lead to it."""
    if isinstance(found, Tensor | Value):
        yield path or "0", found
    elif isinstance(found, PackedSequence):
        yield from named(found.data, _under(path, "data"))
    else:
        for key, part in _parts(found):
            yield from named(part, _under(path, key))


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _parts(found: Any) -> list[tuple[str, Any]]:
    if isinstance(found, Mapping):
        return [(str(key), value) for key, value in found.items()]
    if isinstance(found, list | tuple):
        keys = getattr(found, "_fields", map(str, range(len(found))))
        return list(zip(keys, found, strict=True))
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return [(each.name, getattr(found, each.name)) for each in dataclasses.fields(found)]
    return []


def chosen(
    outputs: Mapping[str, Any], wanted: str | int | None, is_state: Callable[[Value], bool]
) -> str:
    """The name of the model's output: the one that is wanted, or the first signal.

    Raises ImporterError where there is none. `is_state` tells the final states of recurrent
    layers, which come last.
    """
    signals = {name: value for name, value in outputs.items() if isinstance(value, Value)}
    names = ", ".join(signals) or "none"
    if wanted is not None and str(wanted) not in signals:
        raise ImporterError(f"has no output {wanted!r} that is a signal; its signals are: {names}")
    if not signals:
        raise ImporterError("returns a constant, expected a signal that depends on its input")
    first = [name for name, value in signals.items() if not is_state(value)]
    return str(wanted) if wanted is not None else (first or list(signals))[0]

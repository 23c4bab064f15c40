"""Numbers of a report: each knows where it stands in the JSON, and how people read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Value:
    """A number, its place (`index:key.key`, the index that of the result), and its text."""

    place: str
    value: float | int
    text: str


def bytes_text(count: float) -> str:
    """Bytes with all their digits."""
    return f"{count:,.0f}"


def size_text(count: float) -> str:
    """Bytes in steps of 1000, with three digits or so."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.{1 if count >= 10 * size else 2}f} {unit}"
    return f"{count:.0f} B"


FORMS: dict[str, Callable[[float], str]] = {
    "bytes": bytes_text,
    "size": size_text,
    "count": lambda v: f"{v:,.0f}",
    "times": lambda v: f"{v:.1f}\u00d7",
    "percent": lambda v: f"{100 * v:.2f}%",
    "points": lambda v: f"{100 * v:+.2f} points",
    "share": lambda v: f"{100 * v:.1f}%",
    "ms": lambda v: f"{v:.4f} ms",
    "factor": lambda v: f"{v:.4f}",
    "bits": lambda v: f"{v:.2f}",
    "number": lambda v: f"{v:.3g}",
    "seconds": lambda v: f"{v:.1f} s",
}
"""How numbers of each kind are written."""


def look_up(facts: Any, path: str) -> Any:
    """What stands at `key.key`, numbers being places in lists; None where there is nothing."""
    for key in path.split("."):
        if isinstance(facts, Mapping):
            facts = facts.get(key)
        elif isinstance(facts, Sequence) and key.isdigit() and int(key) < len(facts):
            facts = facts[int(key)]
        else:
            return None
    return facts


def value_at(index: int, facts: Any, path: str, form: str) -> Value | None:
    """The number at a path in the facts of a result, written in a form; None where there is no
    number."""
    found = look_up(facts, path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return Value(f"{index}:{path}", found, FORMS[form](found))

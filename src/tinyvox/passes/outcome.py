"""The outcome of a pass: a model and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tinyvox.errors import RecipeError
from tinyvox.model import Model
from tinyvox.recipe import matches


@dataclass(frozen=True)
class Note:
    """What was done to a layer, group or tensor (`layer` is its name), or why it was left alone."""

    layer: str
    what: str


class Outcome(NamedTuple):
    """The new model, and a note about everything that the pass considered."""

    model: Model
    notes: tuple[Note, ...]


def check_patterns(patterns: Iterable[str], names: Sequence[str], what: str) -> None:
    """Raise RecipeError, which begins with `what`, for a pattern that matches no name."""
    for pattern in patterns:
        if not any(matches((pattern,), name) for name in names):
            known = ", ".join(names) if names else "none"
            raise RecipeError(f"{what}: {pattern!r} matches nothing; there are: {known}")

"""What a pass hands back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tinyvox.errors import RecipeError
from tinyvox.model import Model
from tinyvox.recipe import matches


@dataclass(frozen=True)
class Note:
    """What was done to a layer, a group or a tensor, or why it was left alone."""

    layer: str
    what: str


class Outcome(NamedTuple):
    """The new model, and a note for everything that the pass looked at."""

    model: Model
    notes: tuple[Note, ...]


def check_patterns(patterns: Iterable[str], names: Sequence[str], what: str) -> None:
    """Raises RecipeError for a pattern that matches none of the names."""
    for pattern in patterns:
        if not any(matches((pattern,), name) for name in names):
            known = ", ".join(names) if names else "none"
            raise RecipeError(f"{what}: {pattern!r} matches nothing; there are: {known}")

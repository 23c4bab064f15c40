"""Values that Python callers give: each of the type that it has to be, or one line."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from tinyvox.errors import ModelError, RecipeError
from tinyvox.model import Model
from tinyvox.recipe import Recipe
from tinyvox.workflow.request import CompressRequest

NUMBERS: dict[str, tuple[type, str]] = {
    "ratio": (Real, "a number"),
    "max_loss": (Real, "a number"),
    "size": (Integral, "a whole number of bytes"),
    "seed": (Integral, "a whole number"),
}
MOST_SEED = 2**62
PATHS = ("output", "finetune", "card", "save_recipe", "cache")
SPEECH = ("data", "dev")


def check_types(request: CompressRequest) -> None:
    """Raise ModelError or RecipeError, with the name, for a value of another type than it has to
    be, and for a seed that is out of range."""
    if not isinstance(request.model, Path):
        check_model("model", request.model)
    if request.recipe is not None and not isinstance(request.recipe, Recipe | Path):
        raise _wrong("recipe", request.recipe, "a Recipe or a path")
    for name, (kind, expected) in NUMBERS.items():
        value = getattr(request, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise _wrong(name, value, expected)
    for name in PATHS:
        path_of(name, getattr(request, name))
    for name in SPEECH:
        speech_of(name, getattr(request, name))
    if not 0 <= request.seed <= MOST_SEED:
        raise _wrong("seed", request.seed, f"0 to {MOST_SEED}")


def check_model(name: str, value: object) -> None:
    """Raise ModelError where a value is no model."""
    if isinstance(value, Model):
        return
    found = f"{name} is of type {type(value).__name__}, expected a tinyvox.Model or a path"
    hint = "; tinyvox.from_torch(module, example) makes one" if isinstance(value, nn.Module) else ""
    raise ModelError(found + hint)


def path_of(name: str, value: Any) -> Path | None:
    """A path from what a caller gave; None for None. Raises RecipeError for another type."""
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str):
        return Path(value)
    raise _wrong(name, value, "a path")


def speech_of(name: str, value: Any) -> Path | Sequence[Any] | None:
    """A path as `path_of` gives it, or features: a list of arrays, or one array of one utterance.

    Raises RecipeError for another type.
    """
    if isinstance(value, np.ndarray | Tensor):
        return [value]
    if isinstance(value, list | tuple):
        if all(hasattr(each, "shape") for each in value):
            return value
        kinds = ", ".join(sorted({type(each).__name__ for each in value}))
        raise RecipeError(f"{name} is a list of {kinds}, expected a path, or arrays [frames, size]")
    return path_of(name, value)


def _wrong(name: str, value: object, expected: str) -> RecipeError:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return RecipeError(f"{name} is {text[:80]}, expected {expected}")

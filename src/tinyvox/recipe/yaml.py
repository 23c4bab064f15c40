"""Recipes as YAML files."""

from __future__ import annotations

from pathlib import Path

from tinyvox.errors import RecipeError
from tinyvox.recipe.steps import Recipe
from tinyvox.storage import Place, read_yaml, write_yaml


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe.

    Raises FileError where the file cannot be read, and RecipeError with the file, the step, the
    key, the value found and what was expected.
    """
    return read_yaml(Path(path), Recipe, RecipeError, _where)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML. Raises FileError where the file cannot be written."""
    write_yaml(path, recipe.document())


def _where(place: Place) -> str:
    """`step 2, quantize.rules.1.bits`; steps and entries of lists are counted from 1."""
    parts = [str(part + 1) if isinstance(part, int) else part for part in place]
    if parts[:1] == ["steps"] and len(parts) > 1:
        key = ".".join(parts[2:])
        return f"step {parts[1]}{', ' + key if key else ''}"
    return ".".join(parts)

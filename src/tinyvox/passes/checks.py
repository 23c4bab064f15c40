"""What of a recipe can be checked against a model before any step is taken."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvox.errors import RecipeError
from tinyvox.model import Model, groups
from tinyvox.passes.outcome import check_patterns
from tinyvox.recipe import (
    EqualizeSettings,
    FactorizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    Settings,
    SparsifySettings,
)


def check_recipe(model: Model, recipe: Recipe, *, finetuned: bool) -> None:
    """Raise RecipeError, with the step's number, for a pattern of a step that matches nothing, and
    for a step that fine-tunes where there is no speech to fine-tune on (`finetuned` is False).

    Matrices keep their names through all steps. Groups of units keep theirs until a step equalizes,
    which folds batch normalizations: after that their patterns are checked by the steps.
    """
    matrices = [name for name, _ in model.matrices()]
    units: list[str] | None = [group.name for group in groups(model)]
    for number, step in enumerate(recipe.steps, start=1):
        if isinstance(step.settings, FinetuneSettings) and not finetuned:
            raise RecipeError(f"step {number} of the recipe fine-tunes; give --finetune MANIFEST")
        if isinstance(step.settings, EqualizeSettings):
            units = None
        try:
            _check_step(step.settings, step.name, matrices, units)
        except RecipeError as error:
            raise RecipeError(f"step {number} of the recipe: {error}") from None


def _check_step(
    settings: Settings, name: str, matrices: Sequence[str], units: Sequence[str] | None
) -> None:
    if isinstance(settings, FactorizeSettings | SparsifySettings):
        check_patterns(settings.layers, matrices, name)
    elif isinstance(settings, QuantizeSettings):
        patterns = [pattern for rule in settings.in_order() for pattern in rule.layers]
        check_patterns(patterns, matrices, name)
    elif isinstance(settings, PruneSettings) and units is not None:
        check_patterns(settings.layers, units, name)

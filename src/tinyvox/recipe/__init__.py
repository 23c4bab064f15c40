"""Recipes: what to do to a model, step by step."""

from tinyvox.recipe.matching import first_match, matches, rule_of
from tinyvox.recipe.settings import (
    ENTROPY_CONSTRAINED,
    GRANULAR,
    HALF_BITS,
    MOST_TRELLIS_BITS,
    WITH_PERCENTILE,
    Criterion,
    EqualizeSettings,
    FactorizeSettings,
    FinetuneSettings,
    GradualPruning,
    Method,
    PruneSettings,
    QuantizeRule,
    QuantizeSettings,
    Settings,
    SparsifySettings,
    units_kept,
)
from tinyvox.recipe.steps import Recipe, Step, with_finetune
from tinyvox.recipe.yaml import load_recipe, save_recipe

__all__ = [
    "Criterion",
    "ENTROPY_CONSTRAINED",
    "EqualizeSettings",
    "FactorizeSettings",
    "FinetuneSettings",
    "GRANULAR",
    "GradualPruning",
    "MOST_TRELLIS_BITS",
    "HALF_BITS",
    "Method",
    "PruneSettings",
    "QuantizeRule",
    "QuantizeSettings",
    "Recipe",
    "Settings",
    "SparsifySettings",
    "Step",
    "WITH_PERCENTILE",
    "first_match",
    "load_recipe",
    "matches",
    "rule_of",
    "save_recipe",
    "units_kept",
    "with_finetune",
]

"""Which layers a pattern matches, and which rule applies to a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from tinyvox.recipe.settings import FinetuneSettings, QuantizeRule, QuantizeSettings
from tinyvox.recipe.steps import Recipe


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a pattern matches the full name, or the layer at its beginning."""
    return any(fnmatchcase(name, p) or fnmatchcase(name, p + ".*") for p in patterns)


def first_match(rules: Sequence[QuantizeRule], name: str) -> QuantizeRule | None:
    """The first rule for the matrix of this full name; None where no rule matches."""
    return next((rule for rule in rules if matches(rule.layers, name)), None)


def rule_of(recipe: Recipe, name: str) -> QuantizeRule | None:
    """The rule by which the recipe codes the matrix of this full name, in the first step that does.

    None where no step codes it.
    """
    for step in recipe.steps:
        rules: Sequence[QuantizeRule] = ()
        if isinstance(step.settings, QuantizeSettings):
            rules = step.settings.in_order()
        elif isinstance(step.settings, FinetuneSettings):
            rules = step.settings.quantize
        if (rule := first_match(rules, name)) is not None:
            return rule
    return None

"""What a search finds: a recipe, its model, and what it does to each matrix."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinyvox.model import Model
from tinyvox.planner.choices import Choice
from tinyvox.planner.effort import BITS
from tinyvox.recipe import (
    HALF_BITS,
    FactorizeSettings,
    QuantizeRule,
    QuantizeSettings,
    Recipe,
    Settings,
)


@dataclass(frozen=True)
class Row:
    """What a plan does to one matrix.

    `rank` is None for the whole matrix; `bits` are coded bits for each weight. `predicted` and
    `measured` are what this alone costs: nats a frame, or the relative squared error of outputs
    that are not log-probabilities.
    """

    name: str
    shape: tuple[int, int]
    rank: int | None
    bits: float
    bytes: int
    predicted: float
    measured: float


@dataclass(frozen=True)
class Plan:
    """A recipe, the model that it makes, and the bytes of its file; `distance` is how far the
    model's outputs are from those of the original, and `rows` are of the matrices."""

    recipe: Recipe
    model: Model
    size: int
    distance: float
    rows: tuple[Row, ...]


def recipe_of(chosen: Mapping[str, Choice], first: Sequence[Settings] = ()) -> Recipe:
    """The recipe of these choices after the steps `first`: a step for each rank, and a rule for
    each number of bits; the commonest number is that of the step itself."""
    ranks: dict[int, list[str]] = defaultdict(list)
    depths: dict[float, list[str]] = defaultdict(list)
    for name, choice in chosen.items():
        depths[choice.bits].append(glob.escape(name))
        if choice.rank is not None:
            ranks[choice.rank].append(glob.escape(name))
    steps: list[Settings] = [
        FactorizeSettings(layers=tuple(names), rank=rank) for rank, names in sorted(ranks.items())
    ]
    common = max(depths, key=lambda bits: len(depths[bits]), default=BITS[-1])
    rules = tuple(
        QuantizeRule(method="entropy", layers=tuple(names), bits=bits)
        for bits, names in sorted(depths.items())
        if bits != common
    )
    return Recipe.of(*first, *steps, QuantizeSettings(method="entropy", bits=common, rules=rules))


def sequential(recipe: Recipe, share: float) -> Recipe:
    """The recipe with sequential fitting, and this share of its bits."""
    *before, last = (step.settings for step in recipe.steps)
    assert isinstance(last, QuantizeSettings)
    assert last.bits is not None
    rules = tuple(
        rule.model_copy(update={"bits": _shared(rule.bits, share)}) for rule in last.rules
    )
    more = {"sequential": True, "bits": _shared(last.bits, share), "rules": rules}
    return Recipe.of(*before, last.model_copy(update=more))


def with_share(rows: Sequence[Row], share: float) -> tuple[Row, ...]:
    """The rows with this share of their bits."""
    return tuple(
        replace(row, bits=bits, bytes=round(row.bytes * bits / row.bits))
        for row in rows
        for bits in (_shared(row.bits, share),)
    )


def _shared(bits: float, share: float) -> float:
    """This share of the bits of codes."""
    return bits if bits == HALF_BITS else round(bits * share, 3)

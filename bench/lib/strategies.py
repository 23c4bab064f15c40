"""Ways to a size by one setting for the whole model: each step alone, and steps together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lib import ours
from lib.ours import Calibrate, Divergence
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.recipe import (
    FactorizeSettings,
    FinetuneSettings,
    PruneSettings,
    QuantizeSettings,
    Recipe,
    Settings,
    with_finetune,
)

TRIES, CLOSE = 8, 0.98
"""How often a setting is tried for a size; the share of the size that will do."""

Make = Callable[[float], tuple[Settings, ...]]
"""Steps by how much is kept, between 0 and 1; what is kept grows with it."""


def quantized(keep: float) -> tuple[Settings, ...]:
    """Quantization alone."""
    return (QuantizeSettings(method="entropy", bits=0.06 + 5.9 * keep),)


def factorized(bits: float, keep: float) -> tuple[Settings, ...]:
    """Not the output: one rank for that too, which has 29 rows, ruins every model."""
    factorize = FactorizeSettings(layers=("dense*", "lstm"), rank=max(keep, 0.002))
    return factorize, QuantizeSettings(method="entropy", bits=bits)


def pruned(bits: float, keep: float) -> tuple[Settings, ...]:
    """A share of the units of every layer."""
    prune = PruneSettings(importance="reconstruction", keep=max(keep, 0.02), multiple=1)
    return prune, QuantizeSettings(method="entropy", bits=bits)


def all_three(units: float, bits: float, keep: float) -> tuple[Settings, ...]:
    """A fixed share of the units, and factors of what is left."""
    prune = PruneSettings(importance="reconstruction", keep=units, multiple=1)
    return prune, *factorized(bits, keep)


UNIFORM: Mapping[str, tuple[Make, ...]] = MappingProxyType(
    {
        "quantization": (quantized,),
        "factorization + quantization": tuple(
            functools.partial(factorized, bits) for bits in (1.5, 2.5)
        ),
        "pruning + quantization": tuple(functools.partial(pruned, bits) for bits in (1.0, 2.0)),
        "all three": (functools.partial(all_three, 0.85, 2.0),),
    }
)
"""By name; of several bit depths the better one is taken."""


@dataclass(frozen=True)
class Fitting:
    """A search for the setting that comes closest to a budget in bytes from below."""

    model: Model
    calibrate: Calibrate
    judge: Divergence
    budget: int

    def best(self, make: Make) -> tuple[float, Recipe] | None:
        """How far outputs move, and the recipe: with matrices fitted one after the other as the
        planner has them, where that moves them less. None where nothing is as small."""
        closest = self._closest(make)
        if closest is None:
            return None
        model, recipe = closest
        *first, quantize = (step.settings for step in recipe.steps)
        fitted = Recipe.of(*first, quantize.model_copy(update={"sequential": True}))
        small = ours.compress(self.model, fitted, self.calibrate)
        found = [(self.judge.distance(model), recipe)]
        if tvx.size(small) <= self.budget:
            found.append((self.judge.distance(small), fitted))
        return min(found, key=lambda each: each[0])

    def _closest(self, make: Make) -> tuple[Model, Recipe] | None:
        low, high, keep = 0.0, 1.0, 0.5
        best: tuple[int, Model, Recipe] | None = None
        for _ in range(TRIES):
            recipe = Recipe.of(*make(keep))
            small = ours.compress(self.model, recipe, self.calibrate)
            size = tvx.size(small)
            low, high = (keep, high) if size <= self.budget else (low, keep)
            if size <= self.budget and (best is None or size > best[0]):
                best = size, small, recipe
                if size >= CLOSE * self.budget:
                    break
            keep *= 0.994 * self.budget / size
            if not low < keep < high:
                keep = (low + high) / 2
        return None if best is None else best[1:]


def tuned_after_each_step(recipe: Recipe, steps: int) -> Recipe:
    """Fine-tuning after pruning, where factors follow, a sixth of the steps; after quantization the
    rest, as `compress --finetune` has it."""
    all_settings = [step.settings for step in recipe.steps]
    parts: list[Settings] = []
    left = steps
    for now, after in zip(all_settings, [*all_settings[1:], None], strict=True):
        parts.append(now)
        if isinstance(now, PruneSettings) and isinstance(after, FactorizeSettings):
            parts.append(FinetuneSettings(steps=max(1, steps // 6)))
            left -= steps // 6
    *before, quantize = parts
    tail = with_finetune(Recipe.of(quantize), FinetuneSettings(steps=max(1, left * 3 // 4)))
    return Recipe.of(*before, *(step.settings for step in tail.steps))

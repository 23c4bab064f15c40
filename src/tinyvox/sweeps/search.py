"""Settings of recipes that Optuna chooses, in rounds, so that the same are chosen whoever works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyvox.errors import RecipeError
from tinyvox.packages import load_package
from tinyvox.recipe import Recipe
from tinyvox.sweeps.request import Task

ROUND = 4
"""Recipes that are tried before what came of them is looked at."""
KEPT = (0.3, 1.0, 0.05)
"""The share of the weights that pruning keeps: least, most, step; 1 is without pruning."""
RANKS = (1.0, 0.5, 0.375, 0.25, 0.125)
"""Ranks of factors, as a fraction; 1 is without factorization."""
BITS = (1.0, 6.0, 0.25)
"""Bits a weight in the file: least, most, step."""


class Search:
    """Recipes of prune, factorize and quantize: few bytes and few errors at once.

    Source: the multi-objective tree-structured Parzen estimator (Ozaki et al., "Multiobjective
    tree-structured Parzen estimator", 2022) as Optuna has it. Raises RecipeError where Optuna is
    not installed.
    """

    def __init__(self, trials: int, seed: int) -> None:
        optuna = load_package("optuna", "--search", "'tinyvox[sweep]'", RecipeError)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        self._study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self.trials, self._asked = trials, 0

    def next(self) -> list[tuple[Any, Task]]:
        """The next round, each task with what `tell` takes; empty after the last."""
        count = min(ROUND, self.trials - self._asked)
        asked = [self._study.ask() for _ in range(count)]
        self._asked += count
        return [(trial, _task(trial)) for trial in asked]

    def tell(self, trial: Any, values: Sequence[float] | None) -> None:
        """What came of a task: bytes and errors; None where it failed."""
        if values is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, list(values))


def _task(trial: Any) -> Task:
    kept = round(trial.suggest_float("kept", *KEPT[:2], step=KEPT[2]), 2)
    rank = trial.suggest_categorical("rank", RANKS)
    bits = trial.suggest_float("bits", *BITS[:2], step=BITS[2])
    settings = {"kept": kept, "rank": rank, "bits": bits}
    steps: list[dict[str, Any]] = []
    if kept < 1:
        steps.append({"prune": {"budget": kept}})
    if rank < 1:
        steps.append({"factorize": {"rank": rank}})
    steps.append({"quantize": {"method": "entropy", "bits": bits, "sequential": True}})
    recipe = Recipe.model_validate({"steps": steps})
    return Task(f"search-{trial.number + 1}", recipe=recipe, settings=settings)

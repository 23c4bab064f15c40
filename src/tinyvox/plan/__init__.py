"""A budget in, a recipe out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from tinyvox.errors import RecipeError
from tinyvox.imagine import imagine
from tinyvox.model import Model
from tinyvox.passes import Look
from tinyvox.plan.search import Judge, Plan, Row, Search
from tinyvox.recipe import Recipe
from tinyvox.trial import Trial

__all__ = ["Judge", "Plan", "Row", "find_plan", "plan"]


def plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    judge: Judge | None = None,
    look: Look = imagine,
    trial: Trial | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Recipe:
    """The recipe that loses least among those that reach a ratio or a size; `find_plan` tells more.

    `ratio` counts 4 bytes a parameter of the original, `size` is in bytes.
    """
    return find_plan(
        model, ratio=ratio, size=size, max_loss=max_loss, judge=judge, look=look, trial=trial,
        seed=seed, progress=progress,
    ).recipe  # fmt: skip


def find_plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    judge: Judge | None = None,
    look: Look = imagine,
    trial: Trial | None = None,
    seed: int = 0,
    state: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """The plan that loses least among those that reach a ratio or a size, or the smallest that
    loses at most `max_loss`, as `judge` tells it of a compressed model.

    Units of every group, and a rank and coded bits of every matrix: those that minimise the sum
    over the matrices of the relative error of what they give times what the model's outputs suffer
    from it, a Lagrange multiplier for the bytes (Shoham and Gersho, "Efficient bit allocation for
    an arbitrary set of quantizers", 1988). What they suffer is measured on `trial`, by default
    made-up speech: first with noise, then with what the plan does to each matrix, until the plan
    stays as it is. Sizes are those of the packed file, which the recipe makes byte for byte.

    What matrices are multiplied by comes from `look`: made-up speech, or real (`observe.observe`).
    `state` is a file in which the search is kept, and from which the same call goes on after it was
    interrupted. Deterministic by `seed`. Raises RecipeError with the smallest size that can be
    reached.
    """
    original = 4 * model.original_parameters
    asked = {"ratio": ratio, "size": size, "max_loss": max_loss}
    if sum(value is not None for value in asked.values()) != 1:
        raise RecipeError("a plan needs one of ratio, size and max_loss")
    for name, value in asked.items():
        least = "0 or more" if name == "max_loss" else "a number above 0"
        if value is not None and not (0 <= value < math.inf and (value or name == "max_loss")):
            raise RecipeError(f"the {name} to reach is {value}, expected {least}")
    search = Search(model, look, trial, seed, state, progress or (lambda _: None))
    if max_loss is not None:
        if judge is None:
            raise RecipeError("a loss allowed has to be judged; give --dev MANIFEST")
        return search.smallest_within(max_loss, judge)
    budget = int(original / ratio) if ratio is not None else size
    assert budget is not None
    found = search.best_within(budget)
    if found is None:
        raise RecipeError(
            f"no plan fits {budget} bytes; the smallest that can be reached without fine-tuning is "
            f"about {search.smallest} bytes, a ratio of {original / search.smallest:.1f}"
        )
    return found

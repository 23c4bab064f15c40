"""A budget in, a recipe out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from tinyvox.calibration import Calibration, OutputDivergence
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.model import Model
from tinyvox.passes.pruning import prune
from tinyvox.planner.search import Plan, Row, Search, State, divergence_batches
from tinyvox.recipe import PruneSettings, Recipe

KEEPS = (0.9, 0.7, 0.5)
"""Shares of the weights that pruning leaves, in the order in which they are tried."""
PRUNING = 0.5
"""Pruning that alone costs more of what the best plan costs is not tried further."""
LARGE = 20_000_000
"""Parameters of a network beyond which fewer units are not tried, nor matrices fitted to those
before them: either takes about as long as the rest."""
CLEARLY = 0.9
"""How much less a plan with fewer units has to cost: its readers were fitted to much the same
speech as it is held against."""
HALVINGS = 6
"""Sizes that are tried for a loss."""

Judge = Callable[[Model], float]
"""How much worse a compressed model is than the original, in the unit of the loss allowed."""

__all__ = ["Judge", "Plan", "Planner", "Row", "find_plan", "plan"]


def plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    calibration: Calibration | None = None,
) -> Recipe:
    """The recipe that loses least among those that reach a ratio or a size.

    `ratio` counts 4 bytes a parameter of the original, `size` is in bytes. `find_plan` tells what
    the recipe does, and takes a loss in place of a size.
    """
    return find_plan(model, ratio=ratio, size=size, calibration=calibration).recipe


def find_plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    judge: Judge | None = None,
    calibration: Calibration | None = None,
    divergence: OutputDivergence | None = None,
    seed: int = 0,
    state: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """The plan that loses least among those that reach a ratio or a size, or the smallest that
    loses at most `max_loss`, as `judge` tells it of a compressed model.

    Units of every group, and a rank and coded bits of every matrix: those that minimize the sum
    over the matrices of the relative error of what they give times what the model's outputs suffer
    from it, a Lagrange multiplier for the bytes (Shoham and Gersho, "Efficient bit allocation for
    an arbitrary set of quantizers", 1988). What they suffer is measured on `divergence`, by default
    synthetic speech: first with noise, then with what the plan does to each matrix, until the plan
    gets no better. Sizes are those of the packed file, which the recipe makes byte for byte.

    Statistics of the matrices come from `calibration`, by default on synthetic speech.
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
    calibration = calibration or Calibration.synthetic(seed)
    planner = Planner(model, calibration, divergence, seed, state, progress or (lambda _: None))
    if max_loss is not None:
        if judge is None:
            raise RecipeError("a loss allowed has to be judged; give --dev MANIFEST")
        return planner.smallest_within(max_loss, judge)
    budget = int(original / ratio) if ratio is not None else size
    assert budget is not None
    found = planner.best_within(budget)
    if found is None:
        raise RecipeError(
            f"no plan fits {budget} bytes; the smallest that can be reached without fine-tuning is "
            f"about {planner.smallest} bytes, a ratio of {original / planner.smallest:.1f}"
        )
    return found


class Planner:
    """Plans for a model as it is, and for what pruning leaves of it; `find_plan` says what they
    are. What was measured for one budget serves for others."""

    def __init__(
        self,
        model: Model,
        calibration: Calibration,
        divergence: OutputDivergence | None,
        seed: int,
        state: Path | None,
        progress: Callable[[str], None],
    ) -> None:
        self.model, self.calibration, self.progress = model, calibration, progress
        progress("planning: listening to what each matrix does")
        self.statistics = calibration.of(model)
        self.divergence = divergence or OutputDivergence(model, divergence_batches(model, seed + 1))
        self.state = State(state, f"{model.digest()} {seed}")
        self.whole = Search(model, calibration, self.divergence, self.state, progress)
        self.thin: dict[float, Model | None] = {}
        self.pruned: dict[float, Search] = {}

    @property
    def smallest(self) -> int:
        """Bytes of the smallest plan that was tried."""
        tried = [s.smallest for s in (self.whole, *self.pruned.values()) if s.smallest]
        return min(tried)

    def best_within(self, budget: int) -> Plan | None:
        """The plan that loses least in so many bytes; None where none fits.

        Fewer and fewer units are tried, as long as that alone does not cost most of what the best
        plan costs. In the end each matrix is fitted to those before it, where that loses less.
        Neither is done to networks that are LARGE.
        """
        plain = self.whole.best_within(budget)
        if self.model.count_parameters() > LARGE:
            return plain
        best = plain and self.whole.refitted(plain, budget)
        for keep in KEEPS:
            thin = self._thin(keep)
            if thin is None or (
                plain and self.divergence.distance(thin) > PRUNING * plain.distance
            ):
                break
            search = self._search(keep, thin)
            thinner = search.best_within(budget)
            if thinner is None or (plain and thinner.distance > CLEARLY * plain.distance):
                continue
            found = search.refitted(thinner, budget)
            if best is None or found.distance <= CLEARLY * best.distance:
                plain, best = thinner, found
        return best

    def _thin(self, keep: float) -> Model | None:
        """The model with the units that stay where so many weights do; None where units cannot
        go."""
        if keep not in self.thin:
            self.progress(f"planning: the units that {keep:.0%} of the weights leave")
            try:
                settings = PruneSettings(budget=keep)
                self.thin[keep] = prune(self.model, settings, self.statistics).model
            except RecipeError:
                self.thin[keep] = None
        return self.thin[keep]

    def _search(self, keep: float, thin: Model) -> Search:
        if keep not in self.pruned:
            first = (PruneSettings(budget=keep),)
            self.pruned[keep] = Search(
                thin, self.calibration, self.divergence, self.state, self.progress, first
            )
        return self.pruned[keep]

    def smallest_within(self, most: float, judge: Judge) -> Plan:
        """The smallest plan, to some per cent, that a judge says loses no more than `most`."""
        whole = tvx.size(self.whole.rounded)
        low, high = 0.0, float(whole)  # bytes: too few, enough
        best: Plan | None = None
        size = whole / 12
        for _ in range(HALVINGS):
            found = self.best_within(int(size))
            loss = math.inf if found is None else judge(found.model)
            if found is not None:
                self.progress(f"planning: {found.size} bytes lose {loss:.4g}, {most:.4g} allowed")
            if loss <= most:
                best, high = found, size
            else:
                low = size
            size = math.sqrt(max(low, high / 16) * high)
        if best is None:
            raise RecipeError(
                f"no plan of up to {round(low)} bytes loses as little as {most:g}; allow more"
            )
        return best

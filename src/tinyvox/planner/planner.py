"""A budget in, a recipe out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from tinyvox.calibration import Calibration, OutputDivergence, synthetic_batches
from tinyvox.errors import RecipeError
from tinyvox.formats import tvx
from tinyvox.model import Coded, Matrix, Model, Product, Table
from tinyvox.passes.pruning import prune
from tinyvox.passes.quantization import round_vectors
from tinyvox.planner.effort import Effort, settings_of
from tinyvox.planner.plans import Plan
from tinyvox.planner.search import Search
from tinyvox.planner.state import State
from tinyvox.planner.tracking import Tracker
from tinyvox.progress import Progress, silent
from tinyvox.recipe import PruneSettings, Settings

PRUNING = 0.5
"""Where pruning alone costs more than this share of what the best plan costs, no further pruning is
tried."""
CLEARLY = 0.9
"""A plan with fewer units has to cost less than this share of what one with all units costs: the
matrices that read the units were fitted on much the same speech as plans are judged on."""
HALVINGS = 6
"""Sizes that are tried for a loss."""
FIRST_RATIO, LEAST_RATIO = 12, 16
"""By how much the first of them is smaller than the file without compression, and each of the next
smaller than the smallest that has been enough, at most."""

Judge = Callable[[Model], float]
"""How much worse a compressed model is than the original, in the unit of the loss allowed."""


def find_plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    max_loss: float | None = None,
    judge: Judge | None = None,
    calibration: Calibration | None = None,
    divergence: OutputDivergence | None = None,
    effort: Effort = "normal",
    to_finetune: bool = False,
    seed: int = 0,
    state: Path | None = None,
    progress: Progress = silent,
) -> Plan:
    """The plan that loses least among those that reach a ratio or a size, or the smallest that
    loses at most `max_loss`, as `judge` tells it of a compressed model.

    The units of every group, and a rank and coded bits of every matrix, are those that minimize the
    sum over the matrices of the relative error of their outputs times what such an error costs. The
    cost is how far it moves the outputs of the model, which is measured on `divergence`, by default
    on synthetic speech: first with noise, then with what the plan does to each matrix, until plans
    get no better. Sizes are those of the packed file, which the recipe makes byte for byte where it
    is applied with the same calibration.

    Statistics of the matrices come from `calibration`, by default on synthetic speech. `effort`
    says how much is measured and tried, and how much synthetic speech is made (`settings_of`). A
    plan is made `to_finetune` where its model is trained afterwards.
    `state` is a file in which the search is kept, and from which the same call goes on after it was
    interrupted. `progress` is told of every step, with the size and the loss of the best plan so
    far. Deterministic by `seed`. Raises RecipeError with the smallest size that can be reached.
    """
    asked = {"ratio": ratio, "size": size, "max_loss": max_loss}
    if sum(value is not None for value in asked.values()) != 1:
        raise RecipeError("a plan needs one of ratio, size and max_loss")
    check_budget(asked)
    planner = Planner(
        model, calibration, divergence, effort=effort, to_finetune=to_finetune, seed=seed,
        state=state, progress=progress,
    )  # fmt: skip
    if max_loss is not None:
        if judge is None:
            raise RecipeError("a loss allowed has to be judged; give --dev MANIFEST")
        return planner.smallest_within(max_loss, judge)
    budget = size or int(4 * model.original_parameters / (ratio or 1))
    found = planner.best_within(budget)
    if found is None:
        reached = 4 * model.original_parameters / planner.smallest
        raise RecipeError(
            f"no plan fits {budget} bytes; the smallest that can be reached without fine-tuning is "
            f"about {planner.smallest} bytes, a ratio of {reached:.1f}"
        )
    return found


def check_budget(asked: Mapping[str, float | None]) -> None:
    """Raise RecipeError for a budget, by its name, that is out of range: a ratio and a size are
    above 0, a `max_loss` is 0 or more, and none is infinite or not a number."""
    for name, value in asked.items():
        least = "0 or more" if name == "max_loss" else "a number above 0"
        if value is not None and not (0 <= value < math.inf and (value or name == "max_loss")):
            raise RecipeError(f"the {name} to reach is {value}, expected {least}")


def check_reachable(model: Model, budget: float) -> None:
    """Raise RecipeError, before anything is measured, for a budget in bytes that no plan fits: less
    than the layers take without biases, of which a plan may leave few, and with one bit for each
    row and each column of a matrix."""

    def bits(*shape: int) -> Matrix:
        codes = torch.zeros(shape, dtype=torch.uint8)
        return Coded(codes, Table(torch.tensor([0.0, 1.0])), torch.ones(shape[0]))

    def least_of(name: str, matrix: Matrix) -> Matrix:
        rows, columns = matrix.shape
        return Product(bits(rows, 1), bits(1, columns)) if min(rows, columns) > 1 else matrix

    bare = round_vectors(model, "float16").model.map_matrices(least_of)
    vectors = sum(2 * vector.numel() for _, vector in bare.vectors())
    least = tvx.size(bare) - vectors
    if budget < least:
        raise RecipeError(
            f"no plan fits {budget:.0f} bytes; the smallest file, of layers with hardly any "
            f"weights, has {least:,}; ask for a larger size, or a smaller ratio"
        )


class Planner:
    """Plans for a model as it is, and for what pruning leaves of it; `find_plan` says what they
    are. What was measured for one budget serves for others."""

    def __init__(
        self,
        model: Model,
        calibration: Calibration | None = None,
        divergence: OutputDivergence | None = None,
        *,
        effort: Effort = "normal",
        to_finetune: bool = False,
        seed: int = 0,
        state: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """Measure every matrix of the model."""
        self.model = model
        self.settings = settings_of(effort, model.count_parameters(), to_finetune=to_finetune)
        self._tracker = Tracker(progress)
        self._tracker.expect(1 + len(list(model.matrices())))
        self.calibration = calibration or Calibration.synthetic(seed, self.settings.calibration)
        self.statistics = self.calibration.of(model)
        self.divergence = divergence or OutputDivergence(
            model, synthetic_batches(model, seed + 1, self.settings.judging)
        )
        self._tracker.step()
        self._state = State(state, f"{model.digest()} {seed}")
        self.whole = self._search(model)
        self._thin: dict[float, Model | None] = {}
        self._moved: dict[float, float] = {}  # by the pruning alone
        self._pruned: dict[float, Search] = {}

    @property
    def smallest(self) -> int:
        """Bytes of the smallest plan that was tried."""
        tried = [s.smallest for s in (self.whole, *self._pruned.values()) if s.smallest]
        return min(tried)

    def best_within(self, budget: int) -> Plan | None:
        """The plan that loses least in so many bytes; None where none fits.

        In the end the matrices are fitted in sequence, where that loses less. Fewer and fewer units
        are tried, as long as pruning alone does not cost most of what the best plan costs. The
        settings of the effort say up to which size of network each is done.
        """
        plain = self.whole.best_within(budget)
        best = plain and self.whole.refitted(plain, budget)
        if self.model.count_parameters() > self.settings.pruned_up_to:
            return best
        for keep in self.settings.keeps:
            thin = self._thinner(keep)
            if thin is None or (plain and self._moved[keep] > PRUNING * plain.distance):
                break
            search = self._pruned_search(keep, thin)
            thinner = search.best_within(budget)
            if thinner is None or (plain and thinner.distance > CLEARLY * plain.distance):
                continue
            found = search.refitted(thinner, budget)
            if best is None or found.distance <= CLEARLY * best.distance:
                plain, best = thinner, found
        return best

    def _search(self, model: Model, first: Sequence[Settings] = ()) -> Search:
        return Search(
            model,
            self.calibration,
            self.divergence,
            self.settings,
            self._state,
            self._tracker,
            first,
        )

    def _thinner(self, keep: float) -> Model | None:
        """The model with the units that stay where so many weights do; None where no units can
        go."""
        if keep not in self._thin:
            self._tracker.expect(1)
            try:
                settings = PruneSettings(budget=keep)
                thin = prune(self.model, settings, self.statistics).model
                self._thin[keep], self._moved[keep] = thin, self.divergence.distance(thin)
            except RecipeError:
                self._thin[keep] = None
            self._tracker.step()
        return self._thin[keep]

    def _pruned_search(self, keep: float, thin: Model) -> Search:
        if keep not in self._pruned:
            self._tracker.expect(len(list(thin.matrices())))
            self._pruned[keep] = self._search(thin, (PruneSettings(budget=keep),))
        return self._pruned[keep]

    def smallest_within(self, most: float, judge: Judge) -> Plan:
        """The smallest plan, to some per cent, that a judge says loses no more than `most`.

        Raises RecipeError where none does.
        """
        whole = tvx.size(self.whole.rounded)
        low, high = 0.0, float(whole)  # bytes: too few, enough
        best: Plan | None = None
        size = whole / FIRST_RATIO
        for _ in range(HALVINGS):
            found = self.best_within(int(size))
            if found is not None and judge(found.model) <= most:
                best, high = found, size
            else:
                low = size
            size = math.sqrt(max(low, high / LEAST_RATIO) * high)
        if best is None:
            raise RecipeError(
                f"no plan of up to {round(low)} bytes loses as little as {most:g}; allow more"
            )
        return best

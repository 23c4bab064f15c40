"""The search for a plan: choices by formula, sizes and losses by doing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Sequence

from tinyvox.calibration import Calibration, OutputDivergence
from tinyvox.formats import tvx
from tinyvox.model import Matrix, Model, leaves
from tinyvox.passes import apply, provenance
from tinyvox.passes.lowrank import product
from tinyvox.passes.quantization import code, round_vectors
from tinyvox.planner.allocation import Allocation, Chosen
from tinyvox.planner.choices import Choice, Choices
from tinyvox.planner.effort import SearchSettings
from tinyvox.planner.plans import Plan, Row, recipe_of, sequential, with_share
from tinyvox.planner.state import Found, State
from tinyvox.planner.tracking import Tracker
from tinyvox.recipe import QuantizeRule, Recipe, Settings

BETTER = 0.98
"""A plan counts as better than another if it costs less than this share of what that costs."""
SHARES = (1.0, 0.997, 0.993, 0.987)
"""Shares of the bits of a plan that are tried where its matrices are fitted in sequence, until its
file is small enough."""
CLOSE, AIM = 0.985, 0.994
"""A plan that uses this share of the budget is close enough; the share that is aimed at."""
BYTES_BESIDES = 1500
"""Bytes of a file without its tensors, with its card and its recipe, approximately."""

Fitted = tuple[Chosen, Model, int]
"""Choices, the model that they make, the bytes of its file."""


class Search:
    """Plans for one model, for any budget. What was measured and coded for one serves for others.

    `divergence` is from the original; `first` are the steps that made the model from that.
    """

    def __init__(
        self,
        model: Model,
        calibration: Calibration,
        divergence: OutputDivergence,
        settings: SearchSettings,
        state: State,
        tracker: Tracker,
        first: Sequence[Settings] = (),
    ) -> None:
        self.model, self.calibration, self.divergence = model, calibration, divergence
        self.settings, self.first = settings, tuple(first)
        self.statistics = calibration.of(model)
        self.rounded = round_vectors(model, "float16").model
        self.smallest = 0
        """Bytes of the smallest file that was made; 0 before one was."""
        self._state, self._tracker = state, tracker
        self._missed = 0.0  # bytes by which a file last was larger than by formula
        self._alone = divergence.shorter(model, settings.measurements.frames)
        self._coded: dict[tuple[str, int | None, float], Matrix] = {}
        self._moved: dict[tuple[str, int | None, float], float] = {}
        self._choices = self._measured()
        self._allocation = Allocation(self._choices)
        self._rest = _bytes_besides(self.rounded, self._choices)
        self._key = f"{[repr(step) for step in self.first]} {self._digest()}"

    def best_within(self, budget: int) -> Plan | None:
        """The plan that loses least in so many bytes; None where none fits."""
        self._allocation.factors.clear()
        self._expect_noise(self.settings.noise_shares[0])
        end = self._tracker.expect(self.settings.corrections + 1)
        best: Plan | None = None
        since = 0
        for correction in range(self.settings.corrections + 1):
            fitted = self._fit_or_recall(budget, f"{budget} {correction}")
            if fitted is None:
                break
            found = self._plan(*fitted)
            since = 0 if best is None or found.distance < BETTER * best.distance else since + 1
            best = min(best or found, found, key=lambda plan: plan.distance)
            if since == self.settings.patience:
                break
            self._correct(found)
        self._tracker.finish(end)
        return best

    def refitted(self, plan: Plan, budget: int) -> Plan:
        """The plan, or one with sequential fitting (`passes.quantization`), where that loses less:
        of the same choices, or of those that are best where coding costs less, as it then does."""
        if not self._can_be_fitted():
            return plan
        best, shares = plan, self.settings.noise_shares
        end = self._tracker.expect(2 * len(shares) - 1)
        for share in shares:
            if share != shares[0]:
                self._expect_noise(share)
                fitted = self._fit_or_recall(budget, f"{budget} noise {share}")
                if fitted is None:
                    break
                plan = self._plan(*fitted)
            found = self._fitted_in_order(plan, budget)
            if found.distance >= best.distance:
                break
            best = found
        self._tracker.finish(end)
        return best

    def _can_be_fitted(self) -> bool:
        return self.settings.fitted and self.statistics.model is not None

    def _measured(self) -> dict[str, Choices]:
        """The choices for every matrix that is not coded already."""
        found: dict[str, Choices] = {}
        for name, matrix in self.model.matrices():
            moments, measured = self.statistics.get(name), self.settings.measurements
            choices = Choices(name, matrix, moments, self._alone, measured)
            if choices.all:
                found[name] = choices
            self._tracker.step()
        return found

    def _fitted_in_order(self, plan: Plan, budget: int) -> Plan:
        """The plan with its matrices fitted in sequence, with slightly fewer bits where its file is
        too large otherwise; as it is where that is no better."""
        found = plan
        for share in SHARES:
            recipe = sequential(plan.recipe, share)
            steps = Recipe.of(*(step.settings for step in recipe.steps[len(self.first) :]))
            model = apply(self.model, steps, calibration=self.calibration).model
            model = model.with_provenance(**provenance(self.divergence.model, model, recipe))
            size = tvx.size(model)
            if size <= budget:
                distance = self.divergence.distance(model)
                if distance < plan.distance:
                    found = Plan(recipe, model, size, distance, with_share(plan.rows, share))
                break
        self._tracker.found(found.size, found.distance)
        self._tracker.step()
        return found

    def _correct(self, found: Plan) -> None:
        """Correct the predicted losses by the measured ones."""
        self._allocation.correct((row.name, row.predicted, row.measured) for row in found.rows)

    def _expect_noise(self, share: float) -> None:
        """From now on, take coding to cost this share of what it costs alone."""
        self._missed = 0.0
        self._allocation.expect_noise(share)

    def _fit_or_recall(self, budget: int, place: str) -> Fitted | None:
        """`_fit`, or what an earlier search has come to at this place."""
        known = self._state.recall(f"{self._key} {place}")
        fitted = self._fit(budget) if known is None else self._refit(known)
        if fitted is not None:
            found = Found(chosen=fitted[0], missed=self._missed)
            self._state.keep(f"{self._key} {place}", found)
        return fitted

    def _fit(self, budget: int) -> Fitted | None:
        """The best choices by formula whose file is within the budget; None where none are."""
        best: Fitted | None = None
        target, low, high = budget - self._missed, 0.0, math.inf  # of the bytes by formula
        for _ in range(self.settings.sizes):
            chosen = self._allocation.choose(target - self._rest)
            model, size = self._file(chosen)
            self.smallest = min(self.smallest or size, size)
            if size <= budget:
                if best is None or size > best[2]:
                    best = chosen, model, size
                low = target
                if size >= CLOSE * budget or self._allocation.is_largest(chosen):
                    break
            else:
                high = target
                if self._allocation.is_smallest(chosen):
                    break
            target += AIM * budget - size
            if not low < target < high:
                target = (low + high) / 2 if high < math.inf else low * 1.02
        return None if best is None else self._stretched(best, budget)

    def _stretched(self, best: Fitted, budget: int) -> Fitted:
        """The same choices with more bits, as long as they fit: the bytes of a small file may jump
        between two plans that are close by formula."""
        share = 1.0
        for _ in range(self.settings.sizes):
            if best[2] >= CLOSE * budget or self._allocation.is_largest(best[0]):
                break
            chosen = self._allocation.filled(best[0], share * (AIM * budget - best[2]))
            model, size = self._file(chosen)
            if best[2] < size <= budget:
                best = chosen, model, size
            else:
                share /= 2
        return best

    def _refit(self, known: Found) -> Fitted:
        """What an earlier search has come to, and where it would have gone on."""
        fitted = known.chosen, *self._file(known.chosen)
        self._missed = known.missed
        return fitted

    def _file(self, chosen: Chosen) -> tuple[Model, int]:
        """The model that the recipe of these choices makes, and the bytes of its file."""
        small = self.rounded.with_tensors({n: self._code(n, c) for n, c in chosen.items()})
        recipe = recipe_of(chosen, self.first)
        model = small.with_provenance(**provenance(self.divergence.model, small, recipe))
        size = tvx.size(model)
        self._missed = size - self._rest - sum(choice.size for choice in chosen.values())
        return model, size

    def _code(self, name: str, choice: Choice) -> Matrix:
        """The matrix of this name in codes."""
        key = name, choice.rank, choice.bits
        if key not in self._coded:
            matrix = self.model.matrix(name)
            if choice.rank is not None:
                parts = self._choices[name].parts
                assert parts is not None
                matrix = product(parts, choice.rank)
            rule = QuantizeRule(method="entropy", bits=choice.bits)
            self._coded[key] = code(matrix, rule, self.statistics.get(name))
        return self._coded[key]

    def _plan(self, chosen: Chosen, model: Model, size: int) -> Plan:
        """The plan of these choices, judged."""
        rows = tuple(self._row(name, choice) for name, choice in chosen.items())
        distance = self.divergence.distance(model)
        self._tracker.found(size, distance)
        self._tracker.step()
        return Plan(recipe_of(chosen, self.first), model, size, distance, rows)

    def _row(self, name: str, choice: Choice) -> Row:
        predicted = self._allocation.loss_of(name, choice)
        shape, measured = self._code(name, choice).shape, self._distance_of(name, choice)
        bytes_ = round(choice.size)
        return Row(name, shape, choice.rank, choice.bits, bytes_, predicted, measured)

    def _distance_of(self, name: str, choice: Choice) -> float:
        """How far this choice alone moves the outputs of the model."""
        key = name, choice.rank, choice.bits
        if key not in self._moved:
            self._moved[key] = self._alone.distance_with({name: self._code(name, choice)})
        return self._moved[key]

    def _digest(self) -> str:
        """The same for the same statistics and settings."""
        sums = [float(m.second.diagonal().sum()) for m in self.statistics.values()]
        return hashlib.sha256(f"{sums!r} {self.settings!r}".encode()).hexdigest()


def _bytes_besides(model: Model, chosen: Container[str]) -> float:
    """The bytes of a file without the matrices that are chosen for, approximately."""
    vectors = sum(8 + 2 * vector.numel() for _, vector in model.vectors())
    fixed = sum(
        leaf.shape[0] * leaf.shape[1]
        for name, matrix in model.matrices()
        if name not in chosen
        for leaf in leaves(matrix)
    )
    return BYTES_BESIDES + vectors + fixed

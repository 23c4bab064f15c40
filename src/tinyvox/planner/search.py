"""The search for a plan: choices by formula, sizes and losses by doing."""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvox.calibration import (
    Batch,
    Calibration,
    OutputDivergence,
    synthetic_batches,
)
from tinyvox.formats import tvx
from tinyvox.model import Matrix, Model, leaves
from tinyvox.passes import apply, provenance
from tinyvox.passes.lowrank import product
from tinyvox.passes.quantization import code, round_vectors
from tinyvox.planner.choices import BITS, Choice, Choices
from tinyvox.recipe import FactorizeSettings, QuantizeRule, QuantizeSettings, Recipe, Settings

CORRECTIONS, PATIENCE = 5, 2
"""How often predicted losses are set right by what a plan did, at most; how often in a row without a
better plan."""
BETTER = 0.98
"""How much less a plan has to cost to count as a better one."""
HEED = 0.7
"""To what power a loss that was measured changes what is predicted, lest plans swing to and fro."""
NOISES = (1.0, 0.5)
"""Shares of what coding costs alone that it costs where the matrices after it are fitted to what
reaches them, in the order in which they are tried. The less it costs, the fewer bits and the larger
ranks does a plan have."""
SHARES = (1.0, 0.997, 0.993, 0.987)
"""Of the bits of a plan whose matrices are fitted to each other, until its file is small enough."""
ROUNDS = 6
CLOSE, AIM = 0.985, 0.994
"""A plan that uses this much of the budget is not improved further; how much is aimed at."""
DIVERGENCE_SOUNDS, DIVERGENCE_FEATURES = 24, 6
"""Synthetic utterances that plans are held against, of both kinds."""
FRAMES = 1000
"""On which single matrices are held against the original; whole plans are on all that there are."""
BYTES_BESIDES = 1500
"""Of a file without tensors, with its card and its recipe, about."""

Pairs = dict[str, tuple[int | None, float]]
"""A rank, or None, and coded bits for every matrix."""
Chosen = dict[str, Choice]
Fitted = tuple[Chosen, Model, int]
"""Choices, the model that they make, the bytes of its file."""


@dataclass(frozen=True)
class Row:
    """What a plan does to a matrix: `rank` None for the whole, coded bits a weight, bytes; nats a
    frame (or relative squared error of the outputs) that this alone costs, predicted and measured.
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
    """A recipe, the model that it makes, the bytes of its file; how far its outputs are from the
    original's, in all and by matrix."""

    recipe: Recipe
    model: Model
    size: int
    distance: float
    rows: tuple[Row, ...]


class Search:
    """Choices for one model, what they do to it; plans for any budget.

    `divergence` is of the original; `first`, the steps that made the model of that.
    """

    def __init__(
        self,
        model: Model,
        calibration: Calibration,
        divergence: OutputDivergence,
        state: State,
        progress: Callable[[str], None],
        first: Sequence[Settings] = (),
    ) -> None:
        self.model, self.calibration, self.divergence = model, calibration, divergence
        self.statistics, self.first = calibration.of(model), tuple(first)
        self.state, self.progress = state, progress
        self.smallest = 0
        self.missed = 0.0  # bytes by which a file last was larger than by formula
        self.alone = divergence.shorter(model, FRAMES)
        self._coded: dict[tuple[str, int | None, float], Matrix] = {}
        self._moved: dict[tuple[str, int | None, float], float] = {}
        self.rounded = round_vectors(model, "float16").model
        self.choices: dict[str, Choices] = {}
        self.hulls: dict[str, tuple[Choice, ...]] = {}
        self.factors: dict[str, float] = defaultdict(lambda: 1.0)
        for name, matrix in model.matrices():
            progress(f"planning: {name}")
            found = Choices(name, matrix, self.statistics.get(name), self.alone)
            if found.all:
                self.choices[name] = found
        self.rest = _bytes_besides(self.rounded, self.choices)
        self.key = f"{[repr(step) for step in self.first]} {self._listened()}"

    def best_within(self, budget: int) -> Plan | None:
        """The plan that loses least in so many bytes; None where none fits."""
        self.factors.clear()
        self._expect_noise(1.0)
        best: Plan | None = None
        since = 0
        for correction in range(CORRECTIONS + 1):
            place = f"{self.key} {budget} {correction}"
            fitted = self._fit_or_recall(budget, place)
            if fitted is None:
                break
            self.progress("planning: listening to what it costs")
            found = self._plan(*fitted)
            since = 0 if best is None or found.distance < BETTER * best.distance else since + 1
            best = min(best or found, found, key=lambda plan: plan.distance)
            if since == PATIENCE:
                break
            self._correct(found)
        return best

    def refitted(self, plan: Plan, budget: int) -> Plan:
        """The last plan that was found, or one whose matrices are coded one after the other, each
        fitted to what reaches it from those before (`passes.sequential`), where that loses less:
        of the same choices, and of those that are best where coding costs less, as it then does."""
        best = plan
        for noise in NOISES if self.statistics.model is not None else ():
            if noise < 1:
                place = f"{self.key} {budget} noise {noise}"
                self._expect_noise(noise)
                fitted = self._fit_or_recall(budget, place)
                if fitted is None:
                    break
                plan = self._plan(*fitted)
            found = self._fitted_in_order(plan, budget)
            if found.distance >= best.distance:
                break
            best = found
        return best

    def _fitted_in_order(self, plan: Plan, budget: int) -> Plan:
        """The plan with matrices fitted, a bit fewer bits where its file is too large else; as it
        is where that is no better."""
        for share in SHARES:
            self.progress("planning: fitting each matrix to those before it")
            recipe = _sequential(plan.recipe, share)
            steps = Recipe.of(*(step.settings for step in recipe.steps[len(self.first) :]))
            model = apply(self.model, steps, calibration=self.calibration).model
            model = model.with_provenance(**provenance(self.divergence.model, model, recipe))
            size = tvx.size(model)
            if size <= budget:
                distance = self.divergence.distance(model)
                if distance < plan.distance:
                    return Plan(recipe, model, size, distance, _fewer(plan.rows, share))
                break
        return plan

    def _correct(self, found: Plan) -> None:
        """Factors so that the distance predicted for each matrix becomes the measured one."""
        for row in found.rows:
            if row.predicted > 0:
                self.factors[row.name] *= min(max(row.measured / row.predicted, 0.1), 10.0) ** HEED

    def _expect_noise(self, share: float) -> None:
        """Choose from now on where coding costs this share of what it costs alone."""
        self.missed = 0.0
        self.hulls = {name: found.hull(share) for name, found in self.choices.items()}

    def _fit_or_recall(self, budget: int, place: str) -> Fitted | None:
        """`_fit`, or what an earlier search came to at this place."""
        known = self.state.recall(place)
        fitted = self._fit(budget) if known is None else self._refit(known)
        if fitted is not None:
            self.state.keep(place, {n: (c.rank, c.bits) for n, c in fitted[0].items()})
        return fitted

    def _fit(self, budget: int) -> Fitted | None:
        """The best choice by formula, within the budget by the bytes of the file."""
        best: Fitted | None = None
        target, low, high = budget - self.missed, 0.0, math.inf  # of the bytes by formula
        for _ in range(ROUNDS):
            chosen = self._choose(target)
            self.progress("planning: trying a recipe")
            model, size = self._file(chosen)
            self.smallest = min(self.smallest or size, size)
            if size <= budget:
                if best is None or size > best[2]:
                    best = chosen, model, size
                low = target
                if size >= CLOSE * budget or self._is_extreme(chosen, -1):
                    break
            else:
                high = target
                if self._is_extreme(chosen, 0):
                    break
            target += AIM * budget - size
            if not low < target < high:
                target = (low + high) / 2 if high < math.inf else low * 1.02
        return None if best is None else self._stretched(best, budget)

    def _stretched(self, best: Fitted, budget: int) -> Fitted:
        """The same choices with more bits, as long as they fit: between two plans that are near by
        formula the bytes of a small file may jump."""
        share = 1.0
        for _ in range(ROUNDS):
            if best[2] >= CLOSE * budget or self._is_extreme(best[0], -1):
                break
            chosen = self._filled(best[0], share * (AIM * budget - best[2]))
            model, size = self._file(chosen)
            if best[2] < size <= budget:
                best = chosen, model, size
            else:
                share /= 2
        return best

    def _refit(self, known: Mapping[str, tuple[int | None, float]]) -> Fitted:
        """What an earlier search came to."""
        chosen = {}
        for name, (rank, bits) in known.items():
            like = [c for c in self.choices[name].all if c.rank == rank]
            nearest = min(like, key=lambda c: abs(c.bits - bits))
            chosen[name] = nearest if nearest.bits == bits else nearest.with_bits(bits)
        return chosen, *self._file(chosen)

    def _choose(self, target: float) -> Chosen:
        """The least loss in about `target` bytes by formula, the rest of the file included; what
        remains goes to the matrix that gains most by it, while one fits."""
        target -= self.rest
        low, high = -100.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            size = sum(choice.size for choice in self._with_price(2.0**middle).values())
            low, high = (low, middle) if size <= target else (middle, high)
        chosen = self._with_price(2.0**high)
        left = target - sum(choice.size for choice in chosen.values())
        while (step := self._best_step(chosen, left)) is not None:
            name, choice = step
            left -= choice.size - chosen[name].size
            chosen[name] = choice
        return self._filled(chosen, left)

    def _filled(self, chosen: Chosen, left: float) -> Chosen:
        """What is left goes into bits of the matrix that has most bytes and may have more."""
        for name in sorted(chosen, key=lambda name: -chosen[name].size):
            choice = chosen[name]
            more = math.floor(100 * left / choice.size * choice.bits) / 100
            if choice.bits < BITS[-1]:
                bits = min(choice.bits + max(more, 0.0), BITS[-1])
                return {**chosen, name: choice.with_bits(bits)}
        return chosen

    def _with_price(self, price: float) -> dict[str, Choice]:
        return {
            name: min(hull, key=lambda c: self.factors[name] * c.loss + price * c.size)
            for name, hull in self.hulls.items()
        }

    def _best_step(self, chosen: Chosen, left: float) -> tuple[str, Choice] | None:
        """The larger choice for one matrix that gains most a byte in what is left."""
        best: tuple[float, str, Choice] | None = None
        for name, now in chosen.items():
            for choice in self.hulls[name]:
                more = choice.size - now.size
                if 0 < more <= left:
                    gain = self.factors[name] * (now.loss - choice.loss) / more
                    if gain > 0 and (best is None or gain > best[0]):
                        best = gain, name, choice
        return None if best is None else best[1:]

    def _is_extreme(self, chosen: Chosen, end: int) -> bool:
        """Whether every choice is the smallest (0) or the largest (-1) that there is."""
        return all(chosen[name] == hull[end] for name, hull in self.hulls.items())

    def _file(self, chosen: Chosen) -> tuple[Model, int]:
        """The model of these choices and the bytes of its file."""
        model = self._make(chosen)
        size = tvx.size(model)
        self.missed = size - self.rest - sum(choice.size for choice in chosen.values())
        return model, size

    def _make(self, chosen: Chosen) -> Model:
        """The model that the recipe of these choices makes, byte for byte."""
        small = self.rounded.with_tensors({n: self._code(n, c) for n, c in chosen.items()})
        recipe = recipe_of(chosen, self.first)
        return small.with_provenance(**provenance(self.divergence.model, small, recipe))

    def _code(self, name: str, choice: Choice) -> Matrix:
        key = name, choice.rank, choice.bits
        if key not in self._coded:
            matrix = self.model.matrix(name)
            parts = self.choices[name].parts
            if choice.rank is not None:
                assert parts is not None
                matrix = product(parts, choice.rank)
            rule = QuantizeRule(method="entropy", bits=choice.bits)
            self._coded[key] = code(matrix, rule, self.statistics.get(name))
        return self._coded[key]

    def _plan(self, chosen: Chosen, model: Model, size: int) -> Plan:
        rows = []
        for name, choice in chosen.items():
            matrix = self._code(name, choice)
            rows.append(
                Row(
                    name,
                    matrix.shape,
                    choice.rank,
                    choice.bits,
                    round(choice.size),
                    self.factors[name] * choice.loss,
                    self._distance_of(name, choice),
                )
            )
        recipe = recipe_of(chosen, self.first)
        return Plan(recipe, model, size, self.divergence.distance(model), tuple(rows))

    def _distance_of(self, name: str, choice: Choice) -> float:
        key = name, choice.rank, choice.bits
        if key not in self._moved:
            self._moved[key] = self.alone.distance_with({name: self._code(name, choice)})
        return self._moved[key]

    def _listened(self) -> str:
        """What the statistics said, in short."""
        sums = [float(m.second.diagonal().sum()) for m in self.statistics.values()]
        return hashlib.sha256(repr(sums).encode()).hexdigest()


class State:
    """What searches came to so far, by search, budget and correction, in a file; of no effect
    without one."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self.found: dict[str, Pairs] = {}
        if path is not None and path.exists():
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                self.found = held["found"] if held["key"] == key else {}
            except (OSError, ValueError, KeyError, TypeError):
                self.found = {}

    def recall(self, place: str) -> Pairs | None:
        """The rank and the bits of every matrix, where they were kept."""
        return self.found.get(place)

    def keep(self, place: str, pairs: Pairs) -> None:
        self.found[place] = pairs
        if self.path is not None:
            temporary = self.path.with_suffix(".partial")
            temporary.write_text(json.dumps({"key": self.key, "found": self.found}), "utf-8")
            temporary.replace(self.path)


def divergence_batches(model: Model, seed: int) -> list[Batch]:
    """Synthetic utterances that plans are held against."""
    return synthetic_batches(model, seed, DIVERGENCE_SOUNDS, DIVERGENCE_FEATURES)


def recipe_of(chosen: Mapping[str, Choice], first: Sequence[Settings] = ()) -> Recipe:
    """The first steps, one step a rank, one rule a number of bits; the commonest is the step's."""
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


def _sequential(recipe: Recipe, share: float) -> Recipe:
    """The same with sequential quantization, to this share of the bits."""
    *before, last = (step.settings for step in recipe.steps)
    assert isinstance(last, QuantizeSettings)
    assert last.bits is not None
    rules = tuple(
        rule.model_copy(update={"bits": round(rule.bits * share, 3)}) for rule in last.rules
    )
    more = {"sequential": True, "bits": round(last.bits * share, 3), "rules": rules}
    return Recipe.of(*before, last.model_copy(update=more))


def _fewer(rows: Sequence[Row], share: float) -> tuple[Row, ...]:
    """Rows with this share of the bits."""
    return tuple(
        replace(row, bits=round(row.bits * share, 3), bytes=round(row.bytes * share))
        for row in rows
    )


def _bytes_besides(model: Model, chosen: Container[str]) -> float:
    """Of all but the matrices that are chosen for, about."""
    vectors = sum(8 + 2 * vector.numel() for _, vector in model.vectors())
    fixed = sum(
        leaf.shape[0] * leaf.shape[1]
        for name, matrix in model.matrices()
        if name not in chosen
        for leaf in leaves(matrix)
    )
    return BYTES_BESIDES + vectors + fixed

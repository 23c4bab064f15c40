"""Sparsification: single weights become zero, and the others are refitted.

A zero costs almost no bits once codes are entropy-coded. The loss of a matrix W that becomes V is
the energy of (W - V) x over its inputs x, as in `passes.least_squares`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments, energy
from tinyvox.model import Coded, Dense, Matrix, Model, Product
from tinyvox.passes.least_squares import (
    UNWEIGHTED,
    Weighting,
    shared_weighting,
    with_factor,
    with_right,
)
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import SparsifySettings, matches

ROUNDS = 30
"""Rounds of choosing zeros and refitting; 100 rounds mostly gain another hundredth."""
RISE = 0.75
"""Share of the rounds in which the number of zeros rises to the one that was asked for."""
REFITS = 60
"""Steps of conjugate gradients at most."""
ACCURACY = 1e-4
"""The refit ends when its gradient is this small, relative to the first one."""


def sparsify(
    model: Model, settings: SparsifySettings, statistics: Mapping[str, Moments] = NO_STATISTICS
) -> Outcome:
    """Set the weights of the least saliency to zero in the dense matrices that match, factors of
    products included.

    `fraction` is the share of zeros in each leaf; `budget` is the number or share of weights that
    stay in all leaves together, those whose loss is the largest share of their matrix's energy.
    Weights that are zero already count as zeros. Where there are statistics of a matrix, the
    second-order saliency is the loss after the other weights are refitted, and the other weights
    are refitted in any case. Without statistics, and for `magnitude`, the saliency is the square of
    the weight. A factor that products share counts as one of the first of them.

    Raises RecipeError for a pattern that matches no matrix.

    Sources: Hassibi and Stork, "Optimal brain surgeon", 1993 (the loss, and the refit); Frantar and
    Alistarh, "SparseGPT", 2023 (matrix by matrix); `_Alternation` names that of the algorithm.
    """
    check_patterns(settings.layers, [name for name, _ in model.matrices()], "sparsify")
    shared = _shared_leaves(model, settings, statistics)
    work = _Work(settings, _zeros(model, settings, statistics, shared), [])
    for factor, side in shared.items():
        work.factors[factor] = factor
        if side is not None:
            work.factors[factor] = work.thin(side.name, factor, side.weighting)
    changed: dict[str, Matrix | Tensor] = {}
    for name, matrix in model.matrices():
        weighting = _of_inputs(statistics, name)
        if matches(settings.layers, name):
            thin = work.thin(name, matrix, weighting)
        else:
            thin = with_factor(matrix, work.factors, weighting.second_moment)
            what = "left alone: no pattern matches it"
            what += "; a factor that it shares is thinned" if thin is not matrix else ""
            work.notes.append(Note(name, what))
        if thin is not matrix:
            changed[name] = thin
    return Outcome(model.with_tensors(changed), tuple(work.notes))


def _of_inputs(statistics: Mapping[str, Moments], name: str) -> Weighting:
    """The weighting of a matrix by its inputs alone: all of its outputs count alike."""
    return Weighting(Weighting.of(statistics.get(name)).second_moment)


@dataclass(frozen=True)
class _Work:
    """The state of a pass over the leaves of a model."""

    settings: SparsifySettings
    zeros: dict[str, int]
    """The number of zeros of each dense leaf, by its name."""
    notes: list[Note]
    factors: dict[Matrix, Matrix] = field(default_factory=dict)
    """Right factors that products share, and the same with zeros."""

    def thin(self, name: str, matrix: Matrix, weighting: Weighting) -> Matrix:
        """The matrix with its zeros; itself where nothing changes. The left factor of a product is
        refitted to the right one, unless it has zeros, which have to stay zero."""
        if isinstance(matrix, Coded):
            self.notes.append(Note(name, "left alone: it is coded already; sparsify before that"))
            return matrix
        if isinstance(matrix, Dense):
            return self._thin_leaf(name, matrix, weighting)
        right = self.factors.get(matrix.right)
        if right is None:
            of_right = weighting.for_right(matrix.left.decode())
            right = self.thin(f"{name}.right", matrix.right, of_right)
        left = with_right(matrix, right, weighting.second_moment).left
        thin = self.thin(f"{name}.left", left, weighting.for_left(right.decode()))
        unchanged = right is matrix.right and thin is matrix.left
        return matrix if unchanged else Product(thin, right)

    def _thin_leaf(self, name: str, leaf: Dense, weighting: Weighting) -> Dense:
        values, zeros = leaf.values, self.zeros[name]
        there = int((values == 0).sum())
        if zeros <= there:
            held = f"{there} of its {values.numel()} weights are zero already"
            self.notes.append(Note(name, f"left alone: {zeros} zeros were asked for, {held}"))
            return leaf
        by_loss = self.settings.saliency == "second_order"
        thin = zeroed(values, zeros, weighting, second_order=by_loss)
        second_moment = weighting.second_moment
        share = f"{zeros} of {values.numel()} weights are zero ({zeros / values.numel():.1%})"
        lost = energy(values - thin, second_moment) / max(energy(values, second_moment), _tiny())
        what = f"{share}, relative squared error {lost:.3g}"
        if second_moment is not None:
            what += " of its outputs, survivors refitted"
        elif by_loss:
            what += "; by magnitude: nothing is known of its inputs"
        self.notes.append(Note(name, what))
        return Dense(thin)


def zeroed(
    values: Tensor, zeros: int, weighting: Weighting = UNWEIGHTED, *, second_order: bool = True
) -> Tensor:
    """The values with the `zeros` least salient ones set to zero, and the others refitted.

    `values` is float32 [out, in]. Without a second moment in `weighting`, nothing is refitted.
    Values that are zero stay zero where there are no more than `zeros` of them.
    """
    second_moment, importance = weighting.second_moment, weighting.importance
    if second_moment is None or not second_order:
        kept = ~lowest(values.square(), zeros)
        if second_moment is None:
            return values * kept
        return refit(values.double(), values.double(), kept, second_moment).float()
    wide = values.double()
    if importance is None:
        return _alternated(wide, zeros, second_moment).float()
    rows = importance.clamp(min=max(1e-12 * float(importance.max()), _tiny())).sqrt()[:, None]
    return (_alternated(wide * rows, zeros, second_moment) / rows).float()


def lowest(losses: Tensor, count: int) -> Tensor:
    """Where the `count` smallest losses are, bool of the same shape; of equal ones the first."""
    flat = losses.flatten()
    if count == 0:
        return torch.zeros_like(losses, dtype=torch.bool)
    last = flat.kthvalue(count).values
    chosen = flat < last
    equal = (flat == last).nonzero().flatten()
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen.view(losses.shape)


class _Alternation:
    """The alternating direction method of multipliers for zeros in one matrix.

    Columns are scaled so that inputs have energy 1. `free` minimizes the loss plus the distance
    from the zeroed values. The zeroed values are those nearest to the sum of `free` and `summed`,
    which adds up the differences so far. On random matrices the loss is 8 to 64% less than that of
    SparseGPT's sweep over the columns with the other weights refitted.

    Source: Boza, "Fast and effective weight update for pruned large language models", 2024
    (arXiv:2401.02938: the updates, scaled columns, zeros whose number rises).
    """

    def __init__(self, values: Tensor, second_moment: Tensor) -> None:
        self.unit = second_moment.diagonal().sqrt()
        scaled = second_moment / (self.unit[:, None] * self.unit)
        penalty = torch.eye(len(scaled), dtype=scaled.dtype)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(scaled + penalty))
        self.alive = values != 0
        self.free = values * self.unit
        self.fixed, self.summed = self.free @ scaled, torch.zeros_like(self.free)

    def losses(self) -> Tensor:
        """The loss of a zero in each place, float64 [out, in]; 0 where the value was zero."""
        return ((self.free + self.summed) * self.alive).square()

    def step(self, gone: Tensor) -> Tensor:
        """Refit for these zeros; returns the zeroed values before the refit."""
        zeroed = (self.free + self.summed) * (self.alive & ~gone)
        self.summed += self.free - zeroed
        self.free = (self.fixed + zeroed - self.summed) @ self.inverse
        return zeroed / self.unit


def _rising(zeros: int, rounds: int) -> Iterator[int]:
    """The number of zeros in each round: a cubic curve (Zhu and Gupta, 2018, equation 1)."""
    for round_ in range(1, rounds + 1):
        left = max(0.0, 1 - round_ / (RISE * rounds))
        yield round(zeros * (1 - left**3))


def _alternated(values: Tensor, zeros: int, second_moment: Tensor) -> Tensor:
    """The values, float64 [out, in], with `zeros` of them zero and the others refitted."""
    work = _Alternation(values, second_moment)
    for count in _rising(zeros, ROUNDS):
        gone = lowest(work.losses(), count)
        start = work.step(gone)
    return refit(values, start, ~gone, second_moment)


def refit(values: Tensor, start: Tensor, kept: Tensor, second_moment: Tensor) -> Tensor:
    """The matrix of least loss among those that are zero where `kept` is false; float64 [out, in].

    Each row is a least-squares problem; all are solved at once from `start`, by conjugate gradients
    with the diagonal as preconditioner. No step makes the loss larger.

    Source: Hestenes and Stiefel, "Methods of conjugate gradients", 1952; Shewchuk's
    introduction of 1994, section B3 (preconditioned).
    """
    found = start * kept
    rest = (values - found) @ second_moment * kept
    scaled = rest / second_moment.diagonal()
    way, size = scaled, (rest * scaled).sum(1)
    enough = ACCURACY**2 * size.sum()
    for _ in range(REFITS):
        if size.sum() <= enough:
            break
        ahead = way @ second_moment * kept
        step = size / (way * ahead).sum(1).clamp(min=_tiny())
        found = found + step[:, None] * way
        rest = rest - step[:, None] * ahead
        scaled = rest / second_moment.diagonal()
        before, size = size, (rest * scaled).sum(1)
        way = scaled + (size / before.clamp(min=_tiny()))[:, None] * way
    return found


# The number of zeros in each leaf.


def _zeros(
    model: Model, settings: SparsifySettings, statistics: Mapping[str, Moments], shared: _Shared
) -> dict[str, int]:
    """The number of zeros of every dense leaf that is to be sparsified, by its name."""
    sides = [side for side in shared.values() if side is not None]
    sides += [
        _Side(name, matrix, _of_inputs(statistics, name))
        for name, matrix in model.matrices()
        if matches(settings.layers, name)
    ]
    found = [leaf for side in sides for leaf in _leaves(side, shared)]
    sizes = [leaf.values.numel() for leaf in found]
    if settings.fraction is not None:
        counts = [round(settings.fraction * size) for size in sizes]
    else:
        assert settings.budget is not None
        zeros = sum(sizes) - _kept(sum(sizes), settings.budget)
        by_loss = settings.saliency == "second_order"
        counts = _shared_out(found, zeros, by_loss) if zeros else [0] * len(found)
    return {leaf.name: count for leaf, count in zip(found, counts, strict=True)}


def _kept(size: int, budget: float) -> int:
    return min(size, budget) if isinstance(budget, int) else round(budget * size)


@dataclass(frozen=True)
class _Leaf:
    """Dense values and their weighting."""

    name: str
    values: Tensor
    weighting: Weighting


@dataclass(frozen=True)
class _Side:
    """A matrix or a factor, and its weighting."""

    name: str
    matrix: Matrix
    weighting: Weighting


_Shared = Mapping[Matrix, _Side | None]
"""Right factors that products share; None for those that are left alone."""


def _shared_leaves(
    model: Model, settings: SparsifySettings, statistics: Mapping[str, Moments]
) -> _Shared:
    """The shared right factors, whose rows count as much as they do for all products together."""
    shared: dict[Matrix, _Side | None] = {}
    for factor, names in model.shared_factors().items():
        products = [m for m in map(model.matrix, names) if isinstance(m, Product)]
        weighting = shared_weighting(products, [_of_inputs(statistics, name) for name in names])
        side = _Side(f"{names[0]}.right", factor, weighting)
        shared[factor] = side if matches(settings.layers, names[0]) else None
    return shared


def _leaves(side: _Side, shared: _Shared) -> Iterator[_Leaf]:
    """The dense leaves of a side, but for those of shared factors in it."""
    name, matrix, weighting = side.name, side.matrix, side.weighting
    if isinstance(matrix, Dense):
        yield _Leaf(name, matrix.values, weighting)
    elif isinstance(matrix, Product):
        if matrix.right not in shared:
            of_right = weighting.for_right(matrix.left.decode())
            yield from _leaves(_Side(f"{name}.right", matrix.right, of_right), shared)
        of_left = weighting.for_left(matrix.right.decode())
        yield from _leaves(_Side(f"{name}.left", matrix.left, of_left), shared)


def _shared_out(found: list[_Leaf], zeros: int, second_order: bool) -> list[int]:
    """The number of zeros in each leaf, `zeros` in all. The loss of a zero is counted as a share of
    the energy of its matrix, so that matrices of different scales are comparable.

    By second order all leaves go through the rounds together, so that the loss of a zero is what it
    is when its neighbors are zero too.
    """
    problems = [_problem(leaf, second_order) for leaf in found]
    scales = [1 / max(energy(*problem), _tiny()) for problem in problems]
    works = [_Alternation(*problem) for problem in problems]
    for count in _rising(zeros, ROUNDS if second_order else 1):
        costs = [work.losses() * scale for work, scale in zip(works, scales, strict=True)]
        ranked = lowest(torch.cat([cost.flatten() for cost in costs]), count)
        parts = torch.split(ranked, [cost.numel() for cost in costs])
        for work, part in zip(works, parts, strict=True):
            work.step(part.view(work.alive.shape))
    return [int(part.sum()) for part in parts]


def _problem(leaf: _Leaf, second_order: bool) -> tuple[Tensor, Tensor]:
    """Values and second moment whose loss is that of the leaf by this saliency; float64."""
    values = leaf.values.double()
    second_moment, importance = leaf.weighting.second_moment, leaf.weighting.importance
    if second_moment is None or not second_order:
        return values, torch.eye(values.shape[1], dtype=torch.float64)
    rows = 1.0 if importance is None else importance.sqrt()[:, None]
    return values * rows, second_moment


def _tiny() -> float:
    return torch.finfo(torch.float64).tiny

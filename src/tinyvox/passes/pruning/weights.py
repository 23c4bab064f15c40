"""Weight pruning: single weights become zero, and those that stay make up for them.

A zero costs next to nothing once codes are entropy-coded. The loss of a matrix is the energy of
(W - V) x over its inputs x, as in `passes.error_compensation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Statistics, energy
from tinyvox.model import Coded, Dense, Matrix, Model, Product
from tinyvox.passes.error_compensation import (
    inner_second_moment,
    second_moment_of,
    shared_importance,
    with_right,
)
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import SparsifySettings, matches

ROUNDS = 30
"""Of choosing zeros and making up for them; 100 mostly gain another hundredth."""
RISE = 0.75
"""The share of the rounds in which the number of zeros rises to what was asked for."""
REFITS = 60
"""Steps of conjugate gradients at most."""
ACCURACY = 1e-4
"""Of the refit, at which its gradient is small enough, relative to the first one."""


def sparsify(
    model: Model, settings: SparsifySettings, statistics: Statistics = NO_STATISTICS
) -> Outcome:
    """Set the weights of the least saliency to zero in the dense matrices that match, factors of
    products included.

    `fraction` zeroes so many of each leaf's weights; `budget` keeps so many of all of them, those
    whose loss is the largest share of their matrix's energy. What is zero already counts among the
    zeros. Where there is statistics of what a matrix is multiplied by, the second-order saliency is
    the loss when the other weights make up for a zero, and the survivors are refitted, whatever
    the saliency; without, it is the square of the weight, and so for `magnitude`. A factor that
    products share counts as one of the first of them.

    Raises RecipeError for a pattern that matches no matrix.

    Sources: Hassibi and Stork, "Optimal brain surgeon", 1993 (the loss, and making up for it);
    Frantar and Alistarh, "SparseGPT", 2023 (matrix by matrix); `_Alternation` for how.
    """
    check_patterns(settings.layers, [name for name, _ in model.matrices()], "sparsify")
    shared = _shared_leaves(model, settings, statistics)
    work = _Work(settings, _zeros(model, settings, statistics, shared), [])
    for factor, side in shared.items():
        work.factors[factor] = factor
        if side is not None:
            work.factors[factor] = work.thin(side.name, factor, side.second_moment, side.importance)
    changed: dict[str, Matrix | Tensor] = {}
    for name, matrix in model.matrices():
        second_moment = second_moment_of(statistics, [name])
        if matches(settings.layers, name):
            thin = work.thin(name, matrix, second_moment, None)
        else:
            thin, what = (
                work.with_factor(matrix, second_moment),
                "left alone: no pattern matches it",
            )
            what += "; a factor that it shares is thinned" if thin is not matrix else ""
            work.notes.append(Note(name, what))
        if thin is not matrix:
            changed[name] = thin
    return Outcome(model.with_tensors(changed), tuple(work.notes))


@dataclass(frozen=True)
class _Work:
    """What a pass over a model's leaves knows and collects."""

    settings: SparsifySettings
    zeros: dict[str, int]
    """How many weights of each dense leaf become zero."""
    notes: list[Note]
    factors: dict[Matrix, Matrix] = field(default_factory=dict)
    """Right factors that products share, and what became of them."""

    def with_factor(self, matrix: Matrix, second_moment: Tensor | None) -> Matrix:
        """A matrix that stays, with what became of the factor that it shares."""
        if not isinstance(matrix, Product):
            return matrix
        right = self.factors.get(matrix.right, matrix.right)
        return matrix if right is matrix.right else _with_right(matrix, right, second_moment)

    def thin(
        self, name: str, matrix: Matrix, second_moment: Tensor | None, importance: Tensor | None
    ) -> Matrix:
        """The matrix with its zeros; itself where nothing changes. The left factor of a product
        makes up for what its right one lost, unless that would fill zeros of its own."""
        if isinstance(matrix, Coded):
            self.notes.append(Note(name, "left alone: it is coded already; sparsify before that"))
            return matrix
        if isinstance(matrix, Dense):
            return self._thin_leaf(name, matrix, second_moment, importance)
        right = self.factors.get(matrix.right)
        if right is None:
            rows = _right_importance(matrix, second_moment, importance)
            right = self.thin(f"{name}.right", matrix.right, second_moment, rows)
        left = _with_right(matrix, right, second_moment).left
        inner = (
            None if second_moment is None else inner_second_moment(right.decode(), second_moment)
        )
        thin = self.thin(f"{name}.left", left, inner, importance)
        unchanged = right is matrix.right and thin is matrix.left
        return matrix if unchanged else Product(thin, right)

    def _thin_leaf(
        self, name: str, leaf: Dense, second_moment: Tensor | None, importance: Tensor | None
    ) -> Dense:
        values, zeros = leaf.values, self.zeros[name]
        there = int((values == 0).sum())
        if zeros <= there:
            held = f"{there} of its {values.numel()} weights are zero already"
            self.notes.append(Note(name, f"left alone: {zeros} zeros were asked for, {held}"))
            return leaf
        by_loss = self.settings.saliency == "second_order"
        thin = zeroed(values, zeros, second_moment, second_order=by_loss, importance=importance)
        share = f"{zeros} of {values.numel()} weights are zero ({zeros / values.numel():.1%})"
        lost = energy(values - thin, second_moment) / max(energy(values, second_moment), _tiny())
        what = f"{share}, relative squared error {lost:.3g}"
        if second_moment is not None:
            what += " of its outputs, survivors refitted"
        elif by_loss:
            what += "; by magnitude: nothing is known of its inputs"
        self.notes.append(Note(name, what))
        return Dense(thin)


def _with_right(product: Product, right: Matrix, second_moment: Tensor | None) -> Product:
    """The product with another right factor; the left one makes up for it, unless that would fill
    zeros of its own."""
    full = isinstance(product.left, Dense) and bool(product.left.values.all())
    return with_right(product, right, second_moment) if full else Product(product.left, right)


def zeroed(
    values: Tensor,
    zeros: int,
    second_moment: Tensor | None = None,
    *,
    second_order: bool = True,
    importance: Tensor | None = None,
) -> Tensor:
    """The values with the `zeros` least salient ones set to zero, and the others refitted.

    `values` is float32 [out, in]; `second_moment`, float64 [in, in] and positive definite, is the second
    moment of the inputs. Without it nothing is refitted. `importance`, float64 [out], weighs the
    losses of rows. Values that are zero stay so where no more than `zeros` are.
    """
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
    """Where the `count` smallest losses are, bool of their shape; of equal ones the first."""
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

    Columns are scaled to inputs of energy 1. `free` minimizes the loss plus its distance from the
    zeroed values, which are the nearest ones to `free` and the differences `summed` so far. On
    random matrices this loses 8 to 64% less than SparseGPT's sweep over the columns with the
    survivors refitted.

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
        """What a zero costs in each place, float64 [out, in]; nothing where one was before."""
        return ((self.free + self.summed) * self.alive).square()

    def step(self, gone: Tensor) -> Tensor:
        """Make up for these zeros; the zeroed values before it."""
        zeroed = (self.free + self.summed) * (self.alive & ~gone)
        self.summed += self.free - zeroed
        self.free = (self.fixed + zeroed - self.summed) @ self.inverse
        return zeroed / self.unit


def _rising(zeros: int, rounds: int) -> Iterator[int]:
    """How many zeros there are in each round: a cubic curve (Zhu and Gupta, 2018, equation 1)."""
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
    """The matrix of least loss among those that are zero where not `kept`; all float64 [out, in].

    A least-squares problem for each row, all of them solved at once by conjugate gradients with
    the diagonal as preconditioner, from `start`. No step makes the loss larger.

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


# How many zeros each leaf gets.


def _zeros(
    model: Model, settings: SparsifySettings, statistics: Statistics, shared: _Shared
) -> dict[str, int]:
    """The number of zeros of every dense leaf that is to be sparsified, by its name."""
    sides = [side for side in shared.values() if side is not None]
    sides += [
        _Side(name, matrix, second_moment_of(statistics, [name]), None)
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
    """Dense values, what is known of their inputs, and how much their rows matter."""

    name: str
    values: Tensor
    second_moment: Tensor | None
    importance: Tensor | None


@dataclass(frozen=True)
class _Side:
    """A matrix or a factor, what is known of its inputs, and how much its rows matter."""

    name: str
    matrix: Matrix
    second_moment: Tensor | None
    importance: Tensor | None


_Shared = Mapping[Matrix, _Side | None]
"""Right factors that products share; None for those that are left alone."""


def _shared_leaves(model: Model, settings: SparsifySettings, statistics: Statistics) -> _Shared:
    """Their rows matter as much as they do to all the products together."""
    matrices = dict(model.matrices())
    shared: dict[Matrix, _Side | None] = {}
    for factor, names in model.shared_factors().items():
        second_moment = second_moment_of(statistics, names)
        users = [m for m in map(matrices.get, names) if isinstance(m, Product)]
        rows = None if second_moment is None else shared_importance(users, second_moment)
        side = _Side(f"{names[0]}.right", factor, second_moment, rows)
        shared[factor] = side if matches(settings.layers, names[0]) else None
    return shared


def _leaves(side: _Side, shared: _Shared) -> Iterator[_Leaf]:
    """The dense leaves, but for those of shared factors inside."""
    name, matrix, second_moment, importance = (
        side.name,
        side.matrix,
        side.second_moment,
        side.importance,
    )
    if isinstance(matrix, Dense):
        yield _Leaf(name, matrix.values, second_moment, importance)
    elif isinstance(matrix, Product):
        if matrix.right not in shared:
            rows = _right_importance(matrix, second_moment, importance)
            yield from _leaves(_Side(f"{name}.right", matrix.right, second_moment, rows), shared)
        inner = (
            None
            if second_moment is None
            else inner_second_moment(matrix.right.decode(), second_moment)
        )
        yield from _leaves(_Side(f"{name}.left", matrix.left, inner, importance), shared)


def _right_importance(
    matrix: Product, second_moment: Tensor | None, importance: Tensor | None
) -> Tensor | None:
    """How much each row of the right factor matters, float64 [rank]: the squared norm of the column
    that multiplies it; None where nothing is known of the inputs."""
    if second_moment is None:
        return None
    squares = matrix.left.decode().double().square()
    if importance is not None:
        squares = squares * importance[:, None]
    return squares.sum(0)


def _shared_out(found: list[_Leaf], zeros: int, second_order: bool) -> list[int]:
    """How many zeros each leaf gets of so many together, by the share of its matrix's energy that
    each costs, which makes matrices of any scale comparable.

    By second order all leaves go through the rounds at once, so that what a zero costs is known
    as it is when its neighbors are gone too.
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
    """Values and second moment whose loss is the leaf's, as the saliency sees it; float64."""
    values = leaf.values.double()
    if leaf.second_moment is None or not second_order:
        return values, torch.eye(values.shape[1], dtype=torch.float64)
    rows = 1.0 if leaf.importance is None else leaf.importance.sqrt()[:, None]
    return values * rows, leaf.second_moment


def _tiny() -> float:
    return torch.finfo(torch.float64).tiny

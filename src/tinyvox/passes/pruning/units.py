"""Structured pruning: whole hidden units, neurons and channels are removed, and the matrices that
read them are refitted."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments
from tinyvox.errors import RecipeError
from tinyvox.model import (
    Coded,
    Dense,
    Group,
    LayerNorm,
    Matrix,
    Member,
    Model,
    Product,
    fixed_layers,
    groups,
    keep_units,
)
from tinyvox.passes.bias_correction import correct_biases, moments_of
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.passes.pruning.ranking import NORM, UnitRanking, rank_units, spread_of
from tinyvox.recipe import PruneSettings, matches, units_kept


def prune(
    model: Model, settings: PruneSettings, statistics: Mapping[str, Moments] = NO_STATISTICS
) -> Outcome:
    """Remove the least important units of every group that matches, by `rank_units`.

    `keep` is the number or share of units that stay in each group. `budget` is the number or share
    of weights that stay in all matrices in which the groups have a part: units are removed in the
    order of their loss for each weight that they free. With `refit`, the matrices that read the
    units (the right factors of products) are refitted to the other units by least squares, and
    biases correct the means, where there are statistics. A layer without a bias gets one.

    Raises RecipeError for a pattern that matches no group, a criterion without its statistics,
    and a budget that is too small or compares groups whose losses have different units.
    """
    found = groups(model)
    check_patterns(settings.layers, [group.name for group in found], "prune")
    matching = [group for group in found if matches(settings.layers, group.name)]
    cuts = _cuts(model, matching, settings, statistics)
    notes = [Note(name, FIXED) for name in fixed_layers(model)]
    for group in found:
        if group in matching:
            notes.append(Note(group.name, _what(model, group, settings, cuts.get(group.name))))
        else:
            notes.append(Note(group.name, f"left alone: no pattern matches its {group.size} units"))
    refitted = model
    if settings.refit:
        refitted, more = _refitted(model, list(cuts.values()), statistics)
        notes += more
    keep = {name: cut.ranking.kept(cut.count) for name, cut in cuts.items()}
    return Outcome(keep_units(refitted, keep), tuple(notes))


FIXED = "left alone: its units are tied to the model's input, output or a grouped layer"
"""The note about a layer none of whose units can be removed."""


@dataclass(frozen=True)
class _Cut:
    """A group that loses units: their ranking, and how many of them stay."""

    group: Group
    ranking: UnitRanking
    count: int


def _what(model: Model, group: Group, settings: PruneSettings, cut: _Cut | None) -> str:
    """The note about a group that matches."""
    if cut is None:
        return f"left alone: all {group.size} units are kept"
    loss = f"{cut.ranking.lost(cut.count):.3g} {cut.ranking.unit}"
    what = f"kept {cut.count} of {group.size} units, predicted loss {loss}"
    if cut.ranking.unit == NORM and settings.criterion not in ("norm", "random"):
        what += "; by norm: nothing is known of the inputs of what reads them"
    norms = [name for name in group.through if isinstance(model.node(name).layer, LayerNorm)]
    if norms:
        what += f"; the statistics of layer norm {' and '.join(norms)} change"
    return what


# How many units stay.


def _cuts(
    model: Model,
    matching: Sequence[Group],
    settings: PruneSettings,
    statistics: Mapping[str, Moments],
) -> dict[str, _Cut]:
    """The groups that lose units, by name."""

    def whole(group: Group) -> _Cut:
        ranking = rank_units(
            model,
            group,
            statistics,
            settings.criterion,
            seed=settings.seed,
            refit=settings.refit,
        )
        return _Cut(group, ranking, group.size)

    if settings.budget is not None:
        return _cut_down(model, [whole(group) for group in matching], settings)
    assert settings.keep is not None
    counts = {g.name: units_kept(settings.keep, settings.multiple, g.size) for g in matching}
    smaller = [group for group in matching if counts[group.name] < group.size]
    return {group.name: replace(whole(group), count=counts[group.name]) for group in smaller}


def _cut_down(model: Model, whole: Sequence[_Cut], settings: PruneSettings) -> dict[str, _Cut]:
    """The groups that lose units until the matrices fit the budget. Each time the units down to the
    next multiple are removed from the group where that costs least for each weight it frees."""
    _check_comparable(whole)
    cuts = {cut.group.name: cut for cut in whole}
    weights = _Weights(model, whole)
    limit = _limit(weights.count(cuts), settings)
    while weights.count(cuts) > limit:
        smaller = [cut for cut in (_next(cut, settings) for cut in cuts.values()) if cut]
        if not smaller:
            raise RecipeError(
                f"prune: the budget keeps {limit} weights, but {weights.count(cuts)} stay where "
                f"every group keeps {settings.multiple} units; raise it, or lower multiple"
            )
        best = min(smaller, key=lambda cut: _rate(cuts, cut, weights))
        cuts[best.group.name] = best
    return {name: cut for name, cut in cuts.items() if cut.count < cut.group.size}


def _check_comparable(cuts: Sequence[_Cut]) -> None:
    for cut in cuts:
        first = cuts[0]
        if cut.ranking.unit != first.ranking.unit:
            raise RecipeError(
                f"prune: the loss of {first.group.name!r} is a number {first.ranking.unit}, that "
                f"of {cut.group.name!r} {cut.ranking.unit}, and a budget compares them; give "
                f"statistics of all matrices, or keep in place of budget"
            )


def _limit(weights: int, settings: PruneSettings) -> int:
    assert settings.budget is not None
    if isinstance(settings.budget, int):
        return settings.budget
    return math.floor(settings.budget * weights)


def _next(cut: _Cut, settings: PruneSettings) -> _Cut | None:
    """The group with the next smaller multiple of units; None where no unit would be left."""
    count = (cut.count - 1) // settings.multiple * settings.multiple
    return replace(cut, count=count) if count else None


def _rate(cuts: Mapping[str, _Cut], smaller: _Cut, weights: _Weights) -> float:
    """The loss that a smaller group adds for each weight that it frees."""
    name = smaller.group.name
    freed = weights.count(cuts, name) - weights.count({**cuts, name: smaller}, name)
    return (smaller.ranking.lost(smaller.count) - smaller.ranking.lost(cuts[name].count)) / freed


class _Weights:
    """The number of weights in the matrices in which groups have a part, by how many units they
    keep. A factor that products share counts once."""

    def __init__(self, model: Model, cuts: Sequence[_Cut]) -> None:
        self.matrices = dict(model.matrices())
        self.owned: dict[str, set[str]] = defaultdict(set)
        self.shares: dict[str, list[tuple[str, Member]]] = defaultdict(list)
        for cut in cuts:
            for member in cut.group.members:
                if member.tensor in self.matrices:
                    self.owned[cut.group.name].add(member.tensor)
                    self.shares[member.tensor].append((cut.group.name, member))
        shared = (
            [n for n in users if n in self.shares] for users in model.shared_factors().values()
        )
        self.again = {name for users in shared for name in users[1:]}

    def count(self, cuts: Mapping[str, _Cut], group: str | None = None) -> int:
        """The weights of all these matrices, or of those in which one group has a part."""
        return sum(self._of(name, cuts) for name in (self.owned[group] if group else self.shares))

    def _of(self, name: str, cuts: Mapping[str, _Cut]) -> int:
        matrix = self.matrices[name]
        sizes = list(matrix.shape)
        for owner, member in self.shares[name]:
            gone = cuts[owner].group.size - cuts[owner].count
            sizes[member.axis] -= gone * member.width
        if isinstance(matrix, Product) and name in self.again:
            return _size(matrix.left, sizes[0], matrix.rank)
        return _size(matrix, *sizes)


def _size(matrix: Matrix, rows: int, columns: int) -> int:
    """The number of weights of a matrix that keeps so many rows and columns."""
    if isinstance(matrix, Product):
        return _size(matrix.left, rows, matrix.rank) + _size(matrix.right, matrix.rank, columns)
    return rows * columns


# The refit of the matrices that read the units.


def _refitted(
    model: Model, cuts: Sequence[_Cut], statistics: Mapping[str, Moments]
) -> tuple[Model, tuple[Note, ...]]:
    """The model with zeros in the columns that are removed, the other columns refitted, and biases
    that correct the means; and notes on matrices that could not be refitted.

    In a product the right factor is refitted, whose least squares are those of the product. A
    factor that products share is refitted once, to the mean covariance of their inputs.
    """
    notes: list[Note] = []
    users: dict[tuple[Matrix, tuple[int, ...]], list[str]] = defaultdict(list)
    for name, gone in _columns_gone(model, cuts).items():
        matrix = model.matrix(name)
        right = matrix.right if isinstance(matrix, Product) else matrix
        users[right, gone].append(name)
    refitted: dict[str, Matrix | Tensor] = {}
    for (right, gone), names in users.items():
        covariance = _covariance(statistics, names, right.shape[1])
        found = None if covariance is None else _refit(right, gone, covariance)
        if found is None:
            why = "nothing is known of its inputs" if covariance is None else "it is coded already"
            notes += [Note(name, f"cut, not refitted: {why}") for name in names]
            continue
        for name in names:
            matrix = model.matrix(name)
            refitted[name] = Product(matrix.left, found) if isinstance(matrix, Product) else found
    changed = model.with_tensors(refitted)
    return correct_biases(model, changed, statistics).model, tuple(notes)


def _columns_gone(model: Model, cuts: Sequence[_Cut]) -> dict[str, tuple[int, ...]]:
    """The columns that are removed, by the matrix's full name."""
    matrices = {name for name, _ in model.matrices()}
    gone: dict[str, list[int]] = defaultdict(list)
    for cut in cuts:
        units = cut.ranking.order[: cut.group.size - cut.count].sort().values
        for member in cut.group.members:
            if member.axis == 1 and member.tensor in matrices:
                gone[member.tensor] += member.positions(units).tolist()
    return {name: tuple(columns) for name, columns in gone.items()}


def _covariance(
    statistics: Mapping[str, Moments], names: Sequence[str], inputs: int
) -> Tensor | None:
    """The mean covariance of the inputs of these matrices, [in, in], of those that are known."""
    known = {name: moments_of(statistics, name, inputs) for name in names}
    found = [spread_of(name, moments) for name, moments in known.items() if moments is not None]
    return torch.stack(found).mean(0) if found else None


def _refit(matrix: Matrix, gone: Sequence[int], covariance: Tensor) -> Matrix | None:
    """The matrix with zeros in the columns that are removed, and the other columns refitted by
    least squares for inputs of this covariance, float64 [in, in]; None where it is coded."""
    if isinstance(matrix, Coded):
        return None
    if isinstance(matrix, Product):
        right = _refit(matrix.right, gone, covariance)
        return None if right is None else Product(matrix.left, right)
    stays = torch.ones(matrix.shape[1], dtype=torch.bool)
    stays[list(gone)] = False
    root = torch.linalg.cholesky(covariance[stays][:, stays])
    shares = torch.cholesky_solve(covariance[stays][:, ~stays], root)
    values = matrix.values.double()
    refitted = torch.zeros_like(values)
    refitted[:, stays] = values[:, stays] + values[:, ~stays] @ shares.T
    return Dense(refitted.float())

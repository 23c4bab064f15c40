"""Structured pruning: whole hidden units, neurons and channels go, and what read them makes up."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Statistics
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


def prune(model: Model, settings: PruneSettings, statistics: Statistics = NO_STATISTICS) -> Outcome:
    """Remove the least important units of every group that matches, as `ranking.rank_units` says.

    `keep` leaves so many units in each group; `budget` so many weights in all matrices together
    that the groups have a part in: the units go whose loss is the least for each weight they free.
    With `refit` the matrices that read the units are then fitted by least squares to those that
    stay (of a product the right factor), and biases make up for the means, where there is statistics
    of their inputs. A layer without a bias gets one.

    Raises RecipeError for a pattern that matches no group, an importance without its statistics, and
    a budget that is too small or compares groups whose losses are not counted alike.
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
    keep = {name: cut.path.kept(cut.count) for name, cut in cuts.items()}
    return Outcome(keep_units(refitted, keep), tuple(notes))


FIXED = "left alone: its units are tied to the model's input, output or a grouped layer"


@dataclass(frozen=True)
class _Cut:
    """A group that loses units: the order in which they go, and how many stay."""

    group: Group
    path: UnitRanking
    count: int


def _what(model: Model, group: Group, settings: PruneSettings, cut: _Cut | None) -> str:
    """What became of a group that matches."""
    if cut is None:
        return f"left alone: all {group.size} units are kept"
    loss = f"{cut.path.lost(cut.count):.3g} {cut.path.unit}"
    what = f"kept {cut.count} of {group.size} units, predicted loss {loss}"
    if cut.path.unit == NORM and settings.criterion not in ("norm", "random"):
        what += "; by norm: nothing is known of the inputs of what reads them"
    norms = [name for name in group.through if isinstance(model.node(name).layer, LayerNorm)]
    if norms:
        what += f"; the statistics of layer norm {' and '.join(norms)} change"
    return what


# How many units stay.


def _cuts(
    model: Model, matching: Sequence[Group], settings: PruneSettings, statistics: Statistics
) -> dict[str, _Cut]:
    """The groups that lose units, by name."""

    def whole(group: Group) -> _Cut:
        path = rank_units(
            model,
            group,
            statistics,
            settings.criterion,
            seed=settings.seed,
            refit=settings.refit,
        )
        return _Cut(group, path, group.size)

    if settings.budget is not None:
        return _cut_down(model, [whole(group) for group in matching], settings)
    assert settings.keep is not None
    counts = {g.name: units_kept(settings.keep, settings.multiple, g.size) for g in matching}
    smaller = [group for group in matching if counts[group.name] < group.size]
    return {group.name: replace(whole(group), count=counts[group.name]) for group in smaller}


def _cut_down(model: Model, whole: Sequence[_Cut], settings: PruneSettings) -> dict[str, _Cut]:
    """What loses units until the matrices fit the budget: each time the group whose units, down to
    the next multiple, cost least for each weight that they free."""
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
        if cut.path.unit != cuts[0].path.unit:
            first = cuts[0]
            raise RecipeError(
                f"prune: the loss of {first.group.name!r} is a number {first.path.unit}, that of "
                f"{cut.group.name!r} {cut.path.unit}, and a budget compares them; give statistics "
                f"of all matrices, or keep in place of budget"
            )


def _limit(weights: int, settings: PruneSettings) -> int:
    assert settings.budget is not None
    if isinstance(settings.budget, int):
        return settings.budget
    return math.floor(settings.budget * weights)


def _next(cut: _Cut, settings: PruneSettings) -> _Cut | None:
    """The group with the next smaller multiple of units, if one is left."""
    count = (cut.count - 1) // settings.multiple * settings.multiple
    return replace(cut, count=count) if count else None


def _rate(cuts: Mapping[str, _Cut], smaller: _Cut, weights: _Weights) -> float:
    """What the next smaller group costs for each weight that it frees."""
    name = smaller.group.name
    freed = weights.count(cuts, name) - weights.count({**cuts, name: smaller}, name)
    return (smaller.path.lost(smaller.count) - smaller.path.lost(cuts[name].count)) / freed


class _Weights:
    """The weights of the matrices that groups have a part in, by how many units these keep; a
    factor that products share counts once."""

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
        """The weights of all matrices, or of those that one group has a part in."""
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
    """How many weights a matrix holds that keeps so many rows and columns."""
    if isinstance(matrix, Product):
        return _size(matrix.left, rows, matrix.rank) + _size(matrix.right, matrix.rank, columns)
    return rows * columns


# What reads the units makes up for them.


def _refitted(
    model: Model, cuts: Sequence[_Cut], statistics: Statistics
) -> tuple[Model, tuple[Note, ...]]:
    """The model with zeros in the columns that go, those that stay fitted to do without them, and
    biases that make up for the means; and which matrices could not be refitted.

    Of a product the right factor is refitted, whose least squares are those of the product; one
    that products share once, to the mean of what is known of their inputs.
    """
    matrices, notes = dict(model.matrices()), []
    users: dict[tuple[Matrix, tuple[int, ...]], list[str]] = defaultdict(list)
    for name, gone in _columns_gone(model, cuts).items():
        matrix = matrices[name]
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
            matrix = matrices[name]
            refitted[name] = Product(matrix.left, found) if isinstance(matrix, Product) else found
    changed = model.with_tensors(refitted)
    return correct_biases(model, changed, statistics).model, tuple(notes)


def _columns_gone(model: Model, cuts: Sequence[_Cut]) -> dict[str, tuple[int, ...]]:
    """Which columns of each matrix go."""
    matrices = dict(model.matrices())
    gone: dict[str, list[int]] = defaultdict(list)
    for cut in cuts:
        units = cut.path.order[: cut.group.size - cut.count].sort().values
        for member in cut.group.members:
            if member.axis == 1 and member.tensor in matrices:
                gone[member.tensor] += member.positions(units).tolist()
    return {name: tuple(columns) for name, columns in gone.items()}


def _covariance(statistics: Statistics, names: Sequence[str], inputs: int) -> Tensor | None:
    """The mean of how the inputs of these matrices spread, as far as is known, [in, in]."""
    known = {name: moments_of(statistics, name, inputs) for name in names}
    found = [spread_of(name, moments) for name, moments in known.items() if moments is not None]
    return torch.stack(found).mean(0) if found else None


def _refit(matrix: Matrix, gone: Sequence[int], covariance: Tensor) -> Matrix | None:
    """The matrix with zeros in the columns that are gone, the others fitted by least squares to
    inputs of this covariance, float64 [in, in]; None where it is coded."""
    if isinstance(matrix, Coded):
        return None
    if isinstance(matrix, Product):
        right = _refit(matrix.right, gone, covariance)
        return None if right is None else Product(matrix.left, right)
    stays = torch.ones(matrix.shape[1], dtype=torch.bool)
    stays[list(gone)] = False
    root = torch.linalg.cholesky(covariance[stays][:, stays])
    shares = torch.cholesky_solve(covariance[stays][:, ~stays], root)  # of each in the gone ones
    values = matrix.values.double()
    refitted = torch.zeros_like(values)
    refitted[:, stays] = values[:, stays] + values[:, ~stays] @ shares.T
    return Dense(refitted.float())

"""Unit ranking: the order in which the units of a group are removed, and the loss on the way.

The loss arises in the matrices that read a unit, its consumers; the recurrent matrix of the unit's
own layer is one of them. For each consumer it is the energy of the error of the outputs, each
output weighted by its Fisher information where that is known. The loss of several units is not the
sum of their losses: units that cost least alone are rarely active, and often in the same frames.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.calibration import Moments
from tinyvox.errors import RecipeError
from tinyvox.model import Group, Matrix, Model, is_projection
from tinyvox.passes.bias_correction import moments_of
from tinyvox.recipe import Criterion

BLOCK = 64
"""Columns that are eliminated before the other columns are updated in one product."""
NATS, ENERGY, NORM = "nats a frame", "of its readers' output energy", "of its norm"
"""Units of losses; the last two are shares."""


@dataclass(frozen=True)
class UnitRanking:
    """The order in which the units of a group are removed, int64 [size], and the loss once each of
    them and all before it are removed, float64 [size], in `unit`: NATS, ENERGY or NORM."""

    order: Tensor
    loss: Tensor
    unit: str

    def kept(self, count: int) -> Tensor:
        """The units that remain when `count` are kept, in rising order."""
        return self.order[len(self.order) - count :].sort().values

    def lost(self, count: int) -> float:
        """The loss when `count` units are kept."""
        gone = len(self.order) - count
        return float(self.loss[gone - 1]) if gone else 0.0


def rank_units(
    model: Model,
    group: Group,
    statistics: Mapping[str, Moments],
    criterion: Criterion = "reconstruction",
    *,
    seed: int = 0,
    refit: bool = True,
) -> UnitRanking:
    """Rank the units of a group by a criterion, the least important first, with the loss on the
    way. With `refit`, consumers are refitted to the units that are left.

    - `norm`: the norm of all weights of a unit (`norms`);
    - `energy`: the next unit is the one without which the outputs of the consumers lose the least
      energy, as a share of it, given the units that are removed already;
    - `fisher`: the first-order loss of each unit alone, from its saliency at its consumers;
    - `reconstruction`: the next unit is the one whose removal adds the least loss, after the refit
      if there is one;
    - `random`: an order drawn by `seed`.

    Losses are in nats a frame where the Fisher information of all consumers is known, otherwise
    sums over the consumers of shares of the energy of their outputs. Consumers without statistics
    do not count; where no consumer has any, `energy` and `reconstruction` rank by norm, and the
    loss is the share of the squared norms. The losses of groups add up only while errors are small.
    Rows of removed units still count in a recurrent matrix.

    Raises RecipeError for `fisher` without Fisher information, ModelError for statistics of other
    sizes than the model's.

    Sources: Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018,
    section 2, and Molchanov et al., "Importance estimation for neural network pruning", 2019,
    section 3 (`fisher`, here of activations); Hassibi and Stork, "Optimal brain surgeon", 1993, and
    Kurtic et al., "ZipLM", 2023, section 3 (`reconstruction`).
    """
    readers = _readers(model, group, statistics)
    informed = bool(readers) and all(reader.moments.fisher is not None for reader in readers)
    if criterion == "fisher" and not (informed and all(r.knows_saliency() for r in readers)):
        raise RecipeError(
            f"prune: criterion fisher of {group.name!r} needs the Fisher information of what "
            "reads it; calibrate with fisher='outputs', or take another criterion"
        )
    if not readers:
        return _by_norm(model, group, _shuffled(group, seed) if criterion == "random" else None)
    problems = [reader.problem(nats=informed) for reader in readers]
    unit = NATS if informed else ENERGY
    order = _order(model, group, readers, criterion, seed)
    if refit:
        return UnitRanking(*_eliminate(problems, order), unit)
    together = _together(problems)
    order = _least_first(together) if order is None else order
    return UnitRanking(order, _loss_as_they_are(together, order), unit)


def _order(
    model: Model, group: Group, readers: Sequence[_Reader], criterion: Criterion, seed: int
) -> Tensor | None:
    """The order; None where it depends on whether consumers are refitted."""
    if criterion == "reconstruction":
        return None
    if criterion == "random":
        return _shuffled(group, seed)
    if criterion == "norm":
        return norms(model, group).argsort(stable=True)
    if criterion == "energy":
        return _least_first(_together([reader.problem(nats=False) for reader in readers]))
    return torch.stack([reader.saliency() for reader in readers]).sum(0).argsort(stable=True)


def _shuffled(group: Group, seed: int) -> Tensor:
    return torch.tensor(random.Random(f"{seed} {group.name}").sample(range(group.size), group.size))


def _by_norm(model: Model, group: Group, order: Tensor | None) -> UnitRanking:
    squares = norms(model, group).square()
    if order is None:
        order = squares.argsort(stable=True)
    return UnitRanking(order, squares[order].cumsum(0) / squares.sum().clamp(min=_tiny()), NORM)


def norms(model: Model, group: Group) -> Tensor:
    """The norm of the weights of each unit in all matrices, float64 [size].

    Weights in its rows (which compute it) and in its columns (which read it) count alike. Each is
    divided by the root mean square of its matrix, so that the scales of matrices do not matter.
    Vectors do not count.

    Sources: Li et al., "Pruning filters for efficient ConvNets", 2017, section 3.1 (the norm);
    Wen et al., "Learning intrinsic sparse structures within LSTM", 2018, section 3.1 (which rows
    and columns belong to a unit).
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for _, matrix, axis, positions in _shares(model, group):
        squares = matrix.decode().double().square()
        lines = squares.sum(1 - axis)[positions].sum(1)
        total += lines / squares.mean().clamp(min=_tiny())
    return total.sqrt()


def _shares(model: Model, group: Group) -> Iterator[tuple[str, Matrix, int, Tensor]]:
    """Each matrix and axis on which the group has members, and the positions of every unit there,
    int64 [size, positions]."""
    matrices = dict(model.matrices())
    places: dict[tuple[str, int], list[Tensor]] = {}
    for member in group.members:
        if member.tensor in matrices:
            positions = member.positions(torch.arange(group.size)).view(group.size, -1)
            places.setdefault((member.tensor, member.axis), []).append(positions)
    for (name, axis), parts in places.items():
        yield name, matrices[name], axis, torch.cat(parts, dim=1)


# The matrices that read a unit.


@dataclass(frozen=True)
class _Reader:
    """A consumer: its full name, its values, float64 [out, in], its statistics, and the columns of
    each unit, int64 [size, width]."""

    name: str
    values: Tensor
    moments: Moments
    columns: Tensor

    def knows_saliency(self) -> bool:
        return self.moments.saliency is not None

    def saliency(self) -> Tensor:
        """The loss of each unit alone at this consumer, in nats a frame, float64 [size]."""
        assert self.moments.saliency is not None
        return self.moments.saliency[self.columns].sum(1) / 2

    def problem(self, *, nats: bool) -> _Problem:
        """The loss at this consumer, in nats a frame, or as a share of the outputs' energy."""
        if nats:
            assert self.moments.fisher is not None
            weights = self.moments.fisher / 2
        else:
            energy = ((self.values @ self.moments.second) * self.values).sum()
            weights = torch.ones(len(self.values), dtype=torch.float64) / energy.clamp(min=_tiny())
        return _Problem(self, weights)


@dataclass(frozen=True)
class _Problem:
    """A consumer, and the weight of the squared error of each of its outputs, float64 [out]."""

    reader: _Reader
    weights: Tensor

    @property
    def width(self) -> int:
        """Columns a unit."""
        return self.reader.columns.shape[1]

    def gram(self) -> Tensor:
        """W^T F W over the units' columns, [size * width, size * width], F being the weights."""
        values = self.reader.values[:, self.reader.columns.flatten()]
        return values.T @ (self.weights[:, None] * values)

    def inverse(self) -> Tensor:
        """The inverse of the inputs' covariance at those columns. Inputs that are not units of the
        group stay, and compensate as well."""
        spread = spread_of(self.reader.name, self.reader.moments)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(spread))
        columns = self.reader.columns.flatten()
        return inverse[columns][:, columns]


def _readers(model: Model, group: Group, statistics: Mapping[str, Moments]) -> list[_Reader]:
    """The consumers that have statistics."""
    found = []
    for name, matrix, axis, columns in _shares(model, group):
        moments = moments_of(statistics, name, matrix.shape[1]) if axis == 1 else None
        if moments is not None:
            found.append(_Reader(name, matrix.decode().double(), moments, columns))
    return found


def spread_of(name: str, moments: Moments) -> Tensor:
    """The matrix that a refit of the matrix of this full name uses, float64 [in, in], damped and
    positive definite: the covariance of its inputs, as a bias corrects the mean, or their second
    moment where there is no bias."""
    if is_projection(name):
        return moments.damped
    return moments.damped - torch.outer(moments.mean, moments.mean)


# The loss without a refit.


def _together(problems: Sequence[_Problem]) -> Tensor:
    """The weighted energy that pairs of units add to the outputs together, float64 [size, size].
    Summed over all pairs of removed units, it is the loss."""
    size = len(problems[0].reader.columns)
    total = torch.zeros(size, size, dtype=torch.float64)
    for problem in problems:
        columns = problem.reader.columns
        second = problem.reader.moments.second[columns.flatten()][:, columns.flatten()]
        total += (problem.gram() * second).view(*columns.shape, *columns.shape).sum((1, 3))
    return total


def _loss_as_they_are(together: Tensor, order: Tensor) -> Tensor:
    """The loss once each unit and all before it are removed, float64 [size]."""
    ordered = together[order][:, order]
    return (2 * ordered.tril(-1).sum(1) + ordered.diagonal()).cumsum(0)


def _least_first(together: Tensor) -> Tensor:
    """The order in which each next unit adds least to the loss, int64 [size]."""
    added = together.diagonal().clone()
    order: list[int] = []
    for _ in range(len(added)):
        order.append(int(added.argmin()))
        added += 2 * together[order[-1]]
        added[order[-1]] = torch.inf
    return torch.tensor(order)


# The loss with a refit.


def _eliminate(problems: Sequence[_Problem], order: Tensor | None) -> tuple[Tensor, Tensor]:
    """The order of the units, which is the given one or has the unit of least loss next, and the
    loss on the way, with the consumers refitted after each unit."""
    eliminations = [_Elimination(p.gram(), p.inverse(), p.width) for p in problems]
    size = len(problems[0].reader.columns)
    gone: list[int] = []
    losses = torch.empty(size, dtype=torch.float64)
    for step in range(size):
        costs = torch.stack([each.costs() for each in eliminations]).sum(0)
        unit = int(costs.argmin()) if order is None else int(order[step])
        losses[step] = costs[unit]
        gone.append(unit)
        for elimination in eliminations:
            elimination.remove(unit)
    return torch.tensor(gone), losses.cumsum(0)


class _Elimination:
    """The least squares of one consumer while units are removed.

    S^-1 is the inverse of the inputs' covariance, and G = W^T F W. To remove the columns u of a
    unit and refit the other columns costs tr(G_uu (S^-1_uu)^-1). Then, where
    K = (S^-1_uu)^-1 S^-1_u: and R = G_u: - G_uu K / 2,

        S^-1 becomes S^-1 - K^T S^-1_u:    and    G becomes G - K^T R - R^T K.

    The diagonal blocks, from which the costs come, are updated at once; the rest every BLOCK
    columns, in one product.

    Source: Hassibi and Stork, "Optimal brain surgeon", 1993; Kurtic et al., "ZipLM", 2023,
    equations 2 to 4 (blocks of columns). G in place of W is ours.
    """

    def __init__(self, gram: Tensor, inverse: Tensor, width: int) -> None:
        self.width = width
        self.units = torch.arange(len(gram) // width)  # units whose rows are held
        self.place = self.units.clone()  # the place of each unit's rows
        self.gone: list[int] = []  # units removed since the last product
        self._hold(gram, inverse)

    def _hold(self, gram: Tensor, inverse: Tensor) -> None:
        self.gram, self.inverse = gram, inverse
        size, width = len(self.units), self.width
        here = torch.arange(size)
        self.gram_blocks, self.inverse_blocks = (
            matrix.view(size, width, size, width)[here, :, here].clone()
            for matrix in (gram, inverse)
        )
        self.waiting = gram.new_empty(3, max(BLOCK, width), size * width)  # K, S^-1_u:, R
        self.count = 0

    def costs(self) -> Tensor:
        """The cost of each unit, float64 [size]; infinite for units that are removed."""
        costs = self.gram.new_full(self.place.shape, torch.inf)
        if self.width == 1:
            shares = self.gram_blocks / self.inverse_blocks
        else:
            shares = torch.linalg.solve(self.inverse_blocks, self.gram_blocks)
        costs[self.units] = shares.diagonal(dim1=1, dim2=2).sum(1).clamp(min=0)
        costs[self.gone] = torch.inf
        return costs

    def remove(self, unit: int) -> None:
        """Remove a unit and refit the other columns."""
        if self.count + self.width > self.waiting.shape[1]:
            self._catch_up()
        start = int(self.place[unit]) * self.width
        rows = slice(start, start + self.width)
        k, s, r = self.waiting[:, : self.count]
        inverse_rows = self.inverse[rows] - k[:, rows].T @ s
        gram_rows = self.gram[rows] - k[:, rows].T @ r - r[:, rows].T @ k
        spread = torch.linalg.solve(inverse_rows[:, rows], inverse_rows)
        rest = gram_rows - gram_rows[:, rows] @ spread / 2
        self.waiting[:, self.count : self.count + self.width] = torch.stack(
            [spread, inverse_rows, rest]
        )
        self.count += self.width
        self.gone.append(unit)
        spread, inverse_rows, rest = (
            part.view(self.width, -1, self.width).transpose(0, 1)
            for part in (spread, inverse_rows, rest)
        )
        across = spread.mT @ rest
        self.inverse_blocks -= spread.mT @ inverse_rows
        self.inverse_blocks[self.place[unit]] = torch.eye(self.width, dtype=torch.float64)
        self.gram_blocks -= across + across.mT

    def _catch_up(self) -> None:
        """Update all that is held, and drop the rows of the units that are removed."""
        stays = torch.ones(len(self.units), dtype=torch.bool)
        stays[self.place[self.gone]] = False
        rows = stays.repeat_interleave(self.width).nonzero().flatten()
        k, s, r = self.waiting[:, : self.count, rows]
        across = k.T @ r
        self.units, self.gone = self.units[stays], []
        self.place[self.units] = torch.arange(len(self.units))
        self._hold(
            self.gram[rows][:, rows] - across - across.T, self.inverse[rows][:, rows] - k.T @ s
        )


def _tiny() -> float:
    return torch.finfo(torch.float64).tiny

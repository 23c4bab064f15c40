"""Quantization that knows what a matrix is multiplied by: errors are made up for by later codes.

A matrix's loss is the energy of (W - Q) x over its inputs x, the trace of (W - Q) H (W - Q)^T with
H their second moment, and not that of W - Q.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.calibration import Statistics, energy
from tinyvox.model import Coded, Dense, Grid, Matrix, Product, decoded

BLOCK = 64
"""Columns whose errors reach the columns after the block in one product."""


Choose = Callable[[Tensor, Tensor], Tensor]
"""Codes [out, 1] for a column [out, 1], whose squared errors count `weights` [out, 1] times; the
mean of the columns' weights is 1."""
HELD = 1e6
"""Weight of a zero that has to stay one where codes depend on each other."""


def compensate(
    values: Tensor, coded: Coded, second_moment: Tensor, choose: Choose | None = None
) -> Coded:
    """The codes chosen anew, column by column, with the codebook and the scales as they are.

    Each column's error is spread over the columns not yet chosen so that the loss grows least.
    `values` is float32 [out, in], `second_moment` float64 [in, in] and positive definite. Columns with
    the largest input come first, when most columns are left to make up for them. `choose` picks the
    codes of a column, by default those of the nearest levels. What is exactly zero, by sparsity
    that was asked for, stays zero where the codebook can say so.

    Source: Frantar et al., "GPTQ", 2022, algorithm 1; Hassibi and Stork, "Optimal brain surgeon",
    1993 (where an error goes).
    """
    order, spread, weight_of = _order(second_moment)
    pick = _keep_zeros(choose or _nearest(coded), coded)
    zeros = values[:, order] == 0
    levels, scale = coded.levels(), coded.scale
    rest = values[:, order].clone()
    codes = torch.empty(rest.shape, dtype=torch.uint8)
    for start in range(0, rest.shape[1], BLOCK):
        stop = min(start + BLOCK, rest.shape[1])
        errors = torch.empty(rest.shape[0], stop - start)
        for i in range(start, stop):
            column = rest[:, i : i + 1]
            codes[:, i : i + 1] = picked = pick(column, weight_of[i], zeros[:, i : i + 1])
            found = decoded(picked, levels, scale)
            error = (column - found)[:, 0] / spread[i, i]
            rest[:, i + 1 : stop] -= error[:, None] * spread[i, i + 1 : stop]
            errors[:, i - start] = error
        rest[:, stop:] -= errors @ spread[start:stop, stop:]
    placed = torch.empty_like(codes)
    placed[:, order] = codes
    return coded.with_codes(placed)


class _Order(NamedTuple):
    """The order in which columns are coded; how the error of each is spread over those after it;
    how much each counts, 1 on average."""

    order: Tensor
    spread: Tensor
    weights: list[float]


@functools.lru_cache(
    maxsize=16
)  # one second moment, the same object, serves many codings of a matrix
def _order(second_moment: Tensor) -> _Order:
    order = second_moment.diagonal().argsort(descending=True)
    spread = spreading(second_moment[order][:, order])
    importance = spread.diagonal().double().pow(-2)
    return _Order(order, spread, (importance / importance.mean()).tolist())


def spreading(second_moment: Tensor) -> Tensor:
    """How the error of each column is spread over those after it, float32 [in, in], upper: row i
    over its own diagonal entry."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(second_moment))
    spread: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return spread


def _nearest(coded: Coded) -> Choose:
    pick = coded.picker()
    return lambda column, _: pick(column)


def _keep_zeros(choose: Choose, coded: Coded) -> Callable[[Tensor, float, Tensor], Tensor]:
    """Choices for a column, its importance and where it was zero."""
    codes = coded.zero_codes()

    def pick(column: Tensor, importance: float, zero: Tensor) -> Tensor:
        weights = torch.full_like(column, importance)
        if codes is None or not bool(zero.any()):
            return choose(column, weights)
        picked = choose(torch.where(zero, 0, column), torch.where(zero, HELD, weights))
        return torch.where(zero, codes[:, None].to(picked.dtype), picked) if free else picked

    free = not (isinstance(coded.codebook, Grid) and coded.codebook.trellis)
    return pick


def second_moment_of(statistics: Statistics, names: Iterable[str]) -> Tensor | None:
    """The mean of what is known of the inputs of these matrices, which are of one size: float64
    [in, in], positive definite; None where nothing is."""
    known = [statistics[name].damped for name in names if name in statistics]
    return torch.stack(known).mean(0) if len(known) > 1 else next(iter(known), None)


def importance_of(statistics: Statistics, name: str) -> Tensor | None:
    """How much the squared error of each output of a matrix counts, float64 [out], if known."""
    moments = statistics.get(name)
    return moments.importance() if moments else None


def mean_square(matrix: Matrix, second_moment: Tensor | None) -> float:
    """Of a matrix's outputs, for inputs of this second moment or else of variance 1; 1 where all is
    zero, so that one may divide by it."""
    return energy(matrix.decode(), second_moment) / matrix.shape[0] or 1.0


def inner_second_moment(right: Tensor, second_moment: Tensor) -> Tensor:
    """The second moment of what a left factor is multiplied by, float64 [rank, rank]."""
    inner = right.double() @ second_moment @ right.double().T
    floor = 1e-3 * inner.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return inner + floor * torch.eye(len(inner), dtype=torch.float64)


def refit_left(left: Tensor, right: Tensor, coded_right: Tensor, second_moment: Tensor) -> Tensor:
    """The left factor, float32 [out, rank], that makes up best for the errors of the right one.

    Least squares over inputs of second moment `second_moment`; both right factors are [rank, in].
    """
    return least_squares_left(left.double() @ right.double(), coded_right, second_moment)


def least_squares_left(values: Tensor, right: Tensor, second_moment: Tensor) -> Tensor:
    """The left factor, float32 [out, rank], that with a right one, [rank, in], comes closest to
    values [out, in] over inputs of second moment `second_moment`."""
    across = values.double() @ second_moment @ right.double().T
    left: Tensor = torch.linalg.solve(inner_second_moment(right, second_moment), across, left=False)
    return left.float()


def with_right(product: Product, right: Matrix, second_moment: Tensor | None) -> Product:
    """The product with another right factor, for which its left one makes up as well as it can:
    where the inputs are known, and unless it is coded already or single weights of it are zero."""
    left = product.left
    if right is product.right or second_moment is None:
        return Product(left, right)
    if isinstance(left, Dense) and left.values.all():
        left = Dense(refit_left(left.values, product.right.decode(), right.decode(), second_moment))
    return Product(left, right)


def importance_of_middle(left: Tensor, importance: Tensor | None) -> Tensor:
    """How much errors of what the right factor gives count, float64 [rank]."""
    squares = left.double().square()
    return squares.sum(0) if importance is None else importance @ squares


def shared_importance(
    products: Sequence[Product],
    second_moment: Tensor | None,
    importances: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """The same of a right factor that products share, float64 [rank]; their outputs count alike,
    whatever their scale."""
    each = importances or [None] * len(products)
    middles = [
        importance_of_middle(product.left.decode(), importance)
        / mean_square(product, second_moment)
        for product, importance in zip(products, each, strict=True)
    ]
    return torch.stack(middles).sum(0)

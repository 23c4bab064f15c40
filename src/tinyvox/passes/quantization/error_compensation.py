"""Error compensation: the codes of each column compensate for the errors of the columns before it.

The loss of a matrix W with codes Q is the energy of (W - Q) x over its inputs x, which is the trace
of (W - Q) H (W - Q)^T, where H is the second moment of the inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.model import Coded, Grid, decoded

BLOCK = 64
"""Columns whose errors reach the columns after the block in one product."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""Chooses codes [out, 1] for a column [out, 1], whose squared errors have weights [out, 1]; the
mean weight of all columns is 1."""
HELD = 1e6
"""Weight of a zero that has to stay zero where codes depend on each other."""


def compensate(
    values: Tensor, coded: Coded, second_moment: Tensor, choose: Choose | None = None
) -> Coded:
    """New codes, chosen column by column, for the same codebook and scales.

    The error of each column is spread over the columns that have no codes yet, so that the loss
    grows least. `values` is float32 [out, in], `second_moment` is that of the inputs, float64
    [in, in], positive definite. Columns with the largest inputs come first, while most columns are
    left to compensate. `choose` chooses the codes of a column, by default the nearest levels.
    Values that are exactly zero, as sparsity made them, stay zero where the codebook has a zero.

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
    """The order in which columns are coded, how the error of each is spread over those after it,
    and the weight of each, 1 on average."""

    order: Tensor
    spread: Tensor
    weights: list[float]


@functools.lru_cache(maxsize=16)  # one second moment serves many codings of a matrix
def _order(second_moment: Tensor) -> _Order:
    order = second_moment.diagonal().argsort(descending=True)
    spread = _spreading(second_moment[order][:, order])
    weights = spread.diagonal().double().pow(-2)
    return _Order(order, spread, (weights / weights.mean()).tolist())


def _spreading(second_moment: Tensor) -> Tensor:
    """How the error of each column is spread over those after it: float32 [in, in], upper
    triangular; row i is to be divided by its diagonal entry."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(second_moment))
    spread: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return spread


def _nearest(coded: Coded) -> Choose:
    pick = coded.picker()
    return lambda column, _: pick(column)


def _keep_zeros(choose: Choose, coded: Coded) -> Callable[[Tensor, float, Tensor], Tensor]:
    """A choice of codes for a column, by its weight and by where it was zero."""
    codes = coded.zero_codes()

    def pick(column: Tensor, weight: float, zero: Tensor) -> Tensor:
        weights = torch.full_like(column, weight)
        if codes is None or not bool(zero.any()):
            return choose(column, weights)
        picked = choose(torch.where(zero, 0, column), torch.where(zero, HELD, weights))
        return torch.where(zero, codes[:, None].to(picked.dtype), picked) if free else picked

    free = not (isinstance(coded.codebook, Grid) and coded.codebook.trellis)
    return pick

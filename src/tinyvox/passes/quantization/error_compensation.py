"""Error compensation: the codes of each column compensate for the errors of the columns before it.

The loss of a matrix W with codes Q is the energy of (W - Q) x over its inputs x, which is the trace
of (W - Q) H (W - Q)^T, where H is the second moment of the inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox.model import Coded, Grid, decoded
from tinyvox.quantizers import choose, choose_compensated

BLOCK = 64
"""Columns whose errors reach the columns after the block in one product."""

_Choose = Callable[[Tensor, Tensor], Tensor]
"""Chooses codes [out, 1] for a column [out, 1], whose squared errors have weights [out, 1]; the
mean weight of all columns is 1."""
_Pick = Callable[[Tensor, float, Tensor], Tensor]
"""The same, with one weight for the column, and where it was zero."""
HELD = 1e6
"""Weight of a zero that has to stay zero where codes depend on each other."""


def compensate(
    values: Tensor,
    coded: Coded,
    second_moment: Tensor,
    prices: NDArray[np.float32] | None = None,
) -> Coded:
    """New codes, chosen column by column, for the same codebook and scales.

    The error of each column is spread over the columns that have no codes yet, so that the loss
    grows least. `values` is float32 [out, in], `second_moment` is that of the inputs, float64
    [in, in], positive definite. Columns with the largest inputs come first, while most columns are
    left to compensate. Codes are those of the nearest levels, or with `prices`, as `price_codes`
    gives them, those of the least error plus price. Values that are exactly zero, as sparsity made
    them, stay zero where the codebook has a zero.

    Source: Frantar et al., "GPTQ", 2022, algorithm 1; Hassibi and Stork, "Optimal brain surgeon",
    1993 (where an error goes).
    """
    order, spread, weights = _order(second_moment)
    rest = values[:, order].clone()
    zeros = rest == 0
    codes = torch.empty(rest.shape, dtype=torch.uint8)
    code = _block_coder(coded, prices)
    for start in range(0, rest.shape[1], BLOCK):
        part = slice(start, min(start + BLOCK, rest.shape[1]))
        block = _Block(rest[:, part], zeros[:, part], spread[part, part], weights[part])
        codes[:, part], errors = code(block)
        rest[:, part.stop :] -= errors @ spread[part, part.stop :]
    placed = torch.empty_like(codes)
    placed[:, order] = codes
    return coded.with_codes(placed)


class _Block(NamedTuple):
    """Neighboring columns: their values [out, n], where they were zero, how their errors are spread
    [n, n], and the weight of each."""

    values: Tensor
    zeros: Tensor
    spread: Tensor
    weights: list[float]


_CodeBlock = Callable[[_Block], tuple[Tensor, Tensor]]
"""Gives the codes of a block, uint8 [out, n], and the errors that later columns take."""


def _block_coder(coded: Coded, prices: NDArray[np.float32] | None) -> _CodeBlock:
    """The native loop does the same as the one here, where codes have prices and no trellis and no
    value was zero."""
    pick = _keep_zeros(_nearest(coded) if prices is None else _priced(coded, prices), coded)
    trellis = isinstance(coded.codebook, Grid) and coded.codebook.trellis

    def code(block: _Block) -> tuple[Tensor, Tensor]:
        if prices is None or trellis or bool(block.zeros.any()):
            return _code_one_by_one(block, pick, coded)
        weights = torch.tensor(block.weights)
        return choose_compensated(coded, block.values, prices, block.spread, weights)

    return code


def _code_one_by_one(block: _Block, pick: _Pick, coded: Coded) -> tuple[Tensor, Tensor]:
    """The columns one after the other; the values are changed."""
    levels, scale, rest = coded.levels(), coded.scale, block.values
    codes = torch.empty(rest.shape, dtype=torch.uint8)
    errors = torch.empty(rest.shape)
    for i, weight in enumerate(block.weights):
        column = rest[:, i : i + 1]
        codes[:, i : i + 1] = picked = pick(column, weight, block.zeros[:, i : i + 1])
        error = (column - decoded(picked, levels, scale))[:, 0] / block.spread[i, i]
        rest[:, i + 1 :] -= error[:, None] * block.spread[i, i + 1 :]
        errors[:, i] = error
    return codes, errors


class _Order(NamedTuple):
    """The order in which columns are coded, how the error of each is spread over those after it,
    and the weight of each, 1 on average."""

    order: Tensor
    spread: Tensor
    weights: list[float]


@functools.lru_cache(maxsize=8)  # one second moment serves many codings of a matrix
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


def _nearest(coded: Coded) -> _Choose:
    pick = coded.picker()
    return lambda column, _: pick(column)


def _priced(coded: Coded, prices: NDArray[np.float32]) -> _Choose:
    return lambda column, weights: choose(coded, column, prices, weights)


def _keep_zeros(choose_codes: _Choose, coded: Coded) -> _Pick:
    """A choice of codes for a column, by its weight and by where it was zero."""
    codes = coded.zero_codes()

    def pick(column: Tensor, weight: float, zero: Tensor) -> Tensor:
        weights = torch.full_like(column, weight)
        if codes is None or not bool(zero.any()):
            return choose_codes(column, weights)
        picked = choose_codes(torch.where(zero, 0, column), torch.where(zero, HELD, weights))
        return torch.where(zero, codes[:, None].to(picked.dtype), picked) if free else picked

    free = not (isinstance(coded.codebook, Grid) and coded.codebook.trellis)
    return pick

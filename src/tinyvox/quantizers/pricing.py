"""Codes chosen by their squared error and the bits that they take in the file, and those bits."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox import _native
from tinyvox.model import Codebook, Coded, Grid

PRICE = 0.1
"""The price of a bit (a Lagrange multiplier), in squared steps of the quantizer. The best value at
high rates is 0.1155: one bit more halves the step, so it is worth 2 ln 2 times an error of 1/12.
Other values close to it give almost the same result."""
_NO_GROUP = np.empty(0, np.uint8)


def price_codes(coded: Coded) -> NDArray[np.float32]:
    """The price of each code, in squared steps, from how often `coded` has it: float32
    [models, codes].

    There is a model for each row group, and two for each with a trellis. The codebook must be a
    grid.
    """
    grid = coded.codebook
    assert isinstance(grid, Grid)
    counts = counts_of(coded, grid)
    return prices_of(counts, grid.trellis)


def choose(
    coded: Coded, values: Tensor, prices: NDArray[np.float32], error_weights: Tensor | None = None
) -> Tensor:
    """The codes uint8 [out, n] of whole columns of values [out, n] that minimize error plus price.

    Levels, scales and row groups are those of `coded`, whose codebook is a grid with one zero.
    `prices` are those of `price_codes`. Squared errors are in steps of the row and are multiplied
    by `error_weights`, which broadcast to the values; prices are not.
    """
    steps = in_steps(values, coded.scale)
    return choose_in_steps(coded, steps, each_weight(error_weights, values), prices)


def in_steps(values: Tensor, scale: Tensor) -> Tensor:
    """Values [out, n] as multiples of the scales of their rows, columns first: float32 [n, out]."""
    scale = scale[:, None]
    return torch.where(scale > 0, values / scale, 0).T.contiguous()


def each_weight(error_weights: Tensor | None, values: Tensor) -> Tensor:
    """The error weight of each of the values [out, n], columns first: float32 [n, out]."""
    weights = torch.ones(1, 1) if error_weights is None else error_weights
    return weights.expand_as(values).T.contiguous()


def choose_in_steps(
    coded: Coded, steps: Tensor, weights: Tensor, prices: NDArray[np.float32]
) -> Tensor:
    """`choose` for values and weights that come columns first."""
    grid = coded.codebook
    assert isinstance(grid, Grid)
    codes = np.empty(steps.shape, np.uint8)
    row_group = _NO_GROUP if coded.row_group is None else coded.row_group.numpy()
    _native.choose_codes(
        steps.numpy(), weights.numpy(), codes, prices, row_group, int(grid.zero[0]), grid.trellis
    )
    return torch.from_numpy(codes).T.contiguous()


def choose_compensated(
    coded: Coded, block: Tensor, prices: NDArray[np.float32], spread: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The codes uint8 [out, n] of neighboring columns of values [out, n], chosen as `choose` does
    and one column after the other, with the error of each subtracted from those after it; and these
    errors, float32 [out, n].

    `spread` [n, n] says how much of an error each later column takes, and errors are divided by its
    diagonal. `weights`, float32 [n], are error weights. The codebook is a grid without a trellis.
    """
    grid = coded.codebook
    assert isinstance(grid, Grid)
    values = block.T.contiguous().numpy()
    codes, errors = np.empty(values.shape, np.uint8), np.empty(values.shape, np.float32)
    row_group = _NO_GROUP if coded.row_group is None else coded.row_group.numpy()
    _native.choose_compensated(
        values, spread.contiguous().numpy(), weights.numpy(), coded.scale.numpy(), codes, errors,
        prices, row_group, int(grid.zero[0]),
    )  # fmt: skip
    return torch.from_numpy(codes).T.contiguous(), torch.from_numpy(errors).T.contiguous()


def coded_bits(coded: Coded) -> float:
    """The bits for each value that the codes take in a file, approximately, without the scales."""
    counts = counts_of(coded, coded.codebook)
    entries = entropy_bits(counts) + _overhead(counts, coded.shape[0], coded.row_groups)
    return entries / max(1, coded.codes.numel())


def counts_of(coded: Coded, book: Codebook) -> NDArray[np.uint64]:
    """How often each model codes each code, uint64 [models, codes]."""
    row_group = _NO_GROUP if coded.row_group is None else coded.row_group.numpy()
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    counts: NDArray[np.uint64] = _native.count_codes(
        coded.codes.numpy(), book.entries, row_group, coded.row_groups, zero
    )
    return counts


def prices_of(counts: NDArray[np.uint64], trellis: bool) -> NDArray[np.float32]:
    """Prices of codes from their counts, both [models, codes].

    A subset of a trellis is twice as coarse as its grid. A code that does not occur has the price
    of one that occurs very rarely.
    """
    share = counts + 0.05
    bits = -np.log2(share / share.sum(axis=1, keepdims=True))
    prices: NDArray[np.float32] = (PRICE * (4 if trellis else 1) * bits).astype(np.float32)
    return prices


def entropy_bits(counts: NDArray[np.uint64]) -> float:
    """The bits of all codes, with the best static models."""
    counts = counts[counts.sum(axis=1) > 0].astype(np.float64)
    share = counts / counts.sum(axis=1, keepdims=True)
    return float(-(counts * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum())


def _overhead(counts: NDArray[np.uint64], rows: int, row_groups: int) -> float:
    """The bits of the record without its codes, approximately: frequencies, states, row groups."""
    used = counts > 0
    frequencies = 8 * float(used.any(axis=0).sum() * 1.6 * len(counts))
    index = rows * math.log2(row_groups) if row_groups > 1 else 0.0
    return frequencies + index + 16 * row_groups + 8 * 44

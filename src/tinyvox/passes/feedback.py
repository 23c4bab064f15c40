"""Quantisation that knows what a matrix is multiplied by: errors are made up for by later codes.

A matrix's loss is the energy of (W - Q) x over its inputs x, the trace of (W - Q) H (W - Q)^T with
H their second moment, and not that of W - Q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.codebooks import nearest
from tinyvox.matrix import Coded

BLOCK = 64
"""Columns whose errors reach the columns after the block in one product."""


def feed_back(values: Tensor, coded: Coded, metric: Tensor) -> Coded:
    """The codes chosen anew, column by column, with the table and the row scales as they are.

    Each column's error is spread over the columns not yet chosen so that the loss grows least.
    `values` is float32 [out, in], `metric` float64 [in, in] and positive definite. Columns with
    the largest input come first, when most columns are left to make up for them.

    Source: Frantar et al., "GPTQ", 2022, algorithm 1; Hassibi and Stork, "Optimal brain surgeon",
    1993 (where an error goes).
    """
    order = metric.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(metric[order][:, order]))
    spread = torch.linalg.cholesky(inverse, upper=True).float()
    scale, centroids = coded.scale, coded.codebook.centroids
    unscale = torch.where(scale > 0, 1 / scale, 0)
    rest = values[:, order].clone()
    codes = torch.empty(rest.shape, dtype=torch.uint8)
    for start in range(0, rest.shape[1], BLOCK):
        stop = min(start + BLOCK, rest.shape[1])
        errors = torch.empty(rest.shape[0], stop - start)
        for i in range(start, stop):
            column = rest[:, i]
            picked = nearest(column * unscale, centroids)
            codes[:, i] = picked
            error = (column - centroids[picked] * scale) / spread[i, i]
            rest[:, i + 1 : stop] -= error[:, None] * spread[i, i + 1 : stop]
            errors[:, i - start] = error
        rest[:, stop:] -= errors @ spread[start:stop, stop:]
    placed = torch.empty_like(codes)
    placed[:, order] = codes
    return Coded(placed, coded.codebook, scale)


def inner_metric(right: Tensor, metric: Tensor) -> Tensor:
    """The second moment of what a left factor is multiplied by, float64 [rank, rank]."""
    inner = right.double() @ metric @ right.double().T
    floor = 1e-3 * inner.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return inner + floor * torch.eye(len(inner), dtype=torch.float64)


def refit_left(left: Tensor, right: Tensor, coded_right: Tensor, metric: Tensor) -> Tensor:
    """The left factor, float32 [out, rank], that makes up best for the errors of the right one.

    Least squares over inputs of second moment `metric`; both right factors are [rank, in].
    """
    across = (left.double() @ right.double()) @ metric @ coded_right.double().T
    refitted: Tensor = torch.linalg.solve(inner_metric(coded_right, metric), across, left=False)
    return refitted.float()

"""Multi-bit binary codes: a row is a sum of `bits` vectors of signs, each times a number.

Greedy, refined greedy and alternating, each at least as close as the one before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.model import Binary, Coded, nearest, signs
from tinyvox.quantizers.values import blocks_of_rows, check_bits, check_values, compact

ROUNDS = 20
"""Of the alternation at the most."""
GAUSSIAN_STEPS = (1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)
"""Of 2, 4, ... 256 evenly spaced levels, in standard deviations (Max, 1960, table II)."""
VALUES_AT_ONCE = 1 << 19
TINY = 2.0**-126
RIDGE = 1e-7
"""Relative to a row's weight: keeps the normal equations solvable where two bits are the same."""


def greedy(values: Tensor, bits: int, *, weights: Tensor | None = None) -> Coded:
    """One bit after the other, each the best for what those before it left.

    `values` is float32 [out, in]; the signs of the rest and their mean magnitude. `weights`, which
    broadcast to the values, say how much the squared error of each counts. Raises ModelError for
    NaN and infinity, negative weights, or bits outside 1 to 8.

    Source: Guo et al., "Network sketching", 2017, algorithm 1.
    """
    return _code(values, bits, weights, refine=False, rounds=0)


def refined(values: Tensor, bits: int, *, weights: Tensor | None = None) -> Coded:
    """As `greedy`, with the numbers of all bits so far fitted anew by least squares after each.

    Source: Guo et al., 2017, algorithm 2.
    """
    return _code(values, bits, weights, refine=True, rounds=0)


def alternating(values: Tensor, bits: int, *, weights: Tensor | None = None) -> Coded:
    """Least squares for the numbers in turn with the best code for each value, which binary search
    finds among the 2**bits sums. It begins at the refined greedy codes and at evenly spaced sums;
    each row keeps what comes closer.

    Source: Xu et al., "Alternating multi-bit quantization for recurrent neural networks", 2018,
    algorithms 1 and 2 (there from the greedy start).
    """
    return _code(values, bits, weights, refine=True, rounds=ROUNDS)


def _code(values: Tensor, bits: int, weights: Tensor | None, *, refine: bool, rounds: int) -> Coded:
    check_values(values, weights)
    check_bits(bits)
    if not values.numel():
        empty = Binary(values.new_zeros(len(values), bits))
        return Coded(values.to(torch.uint8), empty, torch.ones(len(values)))
    weight = (torch.ones(()) if weights is None else weights.float()).expand_as(values)
    unit = torch.exp2(values.abs().amax(1, keepdim=True).clamp(min=TINY).log2().floor())
    values = (values / unit).contiguous()
    rows = max(1, VALUES_AT_ONCE // max(1, values.shape[1]))
    parts = [
        _code_rows(x, w, bits, refine, rounds)
        for x, w in zip(blocks_of_rows(values, rows), blocks_of_rows(weight, rows), strict=True)
    ]
    codes, alphas = (torch.cat(part) for part in zip(*parts, strict=True))
    alphas = compact(alphas.abs() * unit) * alphas.sign()
    if rounds:
        codes = nearest(values * unit, Binary(alphas).levels(None))
    return Coded(codes.to(torch.uint8), Binary(alphas), torch.ones(values.shape[0]))


def _code_rows(
    x: Tensor, weight: Tensor, bits: int, refine: bool, rounds: int
) -> tuple[Tensor, Tensor]:
    """Codes [rows, in] and numbers [rows, bits]."""
    mass = weight.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    alphas = x.new_zeros(x.shape[0], 0)
    codes = torch.zeros(x.shape, dtype=torch.long)
    rest = x
    for bit in range(bits):
        codes += (rest >= 0).long() << bit
        alphas = torch.cat([alphas, (weight * rest.abs()).sum(1, keepdim=True) / mass], dim=1)
        if refine and bit:
            alphas = _fit(x, codes, weight, bit + 1)
        rest = x - _sums(codes, alphas)
    if not rounds or bits == 1:
        return codes, alphas
    starts = alphas, _even(x, weight, mass, bits)
    return _better(x, weight, *(_alternate(x, weight, start, rounds) for start in starts))


def _even(x: Tensor, weight: Tensor, mass: Tensor, bits: int) -> Tensor:
    """Numbers whose sums are evenly spaced, at the distance that suits a Gaussian row best."""
    spread = ((weight * x.square()).sum(1, keepdim=True) / mass).sqrt()
    return GAUSSIAN_STEPS[bits - 1] * spread * 2.0 ** (torch.arange(bits) - 1)


def _alternate(x: Tensor, weight: Tensor, alphas: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    codes = nearest(x, _levels(alphas))
    for _ in range(rounds):
        alphas = _fit(x, codes, weight, alphas.shape[1])
        before, codes = codes, nearest(x, _levels(alphas))
        if torch.equal(codes, before):
            break
    return codes, alphas


def _better(
    x: Tensor, weight: Tensor, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Of each row the one that is closer."""
    first, second = ((weight * (x - _sums(*pair)).square()).sum(1) for pair in (one, other))
    where = (first <= second)[:, None]
    return torch.where(where, one[0], other[0]), torch.where(where, one[1], other[1])


def _levels(alphas: Tensor) -> Tensor:
    return alphas @ signs(alphas.shape[1]).T


def _sums(codes: Tensor, alphas: Tensor) -> Tensor:
    return _levels(alphas).gather(1, codes)


def _fit(x: Tensor, codes: Tensor, weight: Tensor, bits: int) -> Tensor:
    """Least squares for each row's numbers, [rows, bits], the codes given.

    The normal equations only need the weight and the weighted sum of the values of each code.
    """
    entries = 1 << bits
    shape = (x.shape[0], entries)
    mass = torch.zeros(shape, dtype=torch.float64).scatter_add_(1, codes, weight.double())
    total = torch.zeros(shape, dtype=torch.float64).scatter_add_(1, codes, (weight * x).double())
    sign = signs(bits).double()
    gram = torch.einsum("rc,ci,cj->rij", mass, sign, sign)
    ridge = RIDGE * mass.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    gram = gram + ridge[:, None, None] * torch.eye(bits, dtype=torch.float64)
    fitted: Tensor = torch.linalg.solve(gram, total @ sign)
    return fitted.float()

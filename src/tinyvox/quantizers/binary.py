"""Multi-bit binary codes: a row is a sum of `bits` vectors of signs, each times a number (alpha).

There are greedy, refined greedy and alternating codes. The error of each is at most that of the one
before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.model import Binary, Coded, nearest, signs
from tinyvox.quantizers.values import blocks_of_rows, check_bits, check_values, compact

ROUNDS = 20
"""Most rounds of the alternation."""
GAUSSIAN_STEPS = (1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)
"""The best steps of 2, 4, ... 256 evenly spaced levels for Gaussian values, in standard deviations
(Max, 1960, table II)."""
VALUES_AT_ONCE = 1 << 19
"""Values that are coded together, which bounds the memory."""
TINY = 2.0**-126
"""The smallest normal number of float32."""
RIDGE = 1e-7
"""Added to the diagonal of the normal equations, relative to the sum of the error weights of a row;
keeps them solvable where two bits are equal."""


def greedy(values: Tensor, bits: int, *, error_weights: Tensor | None = None) -> Coded:
    """One bit after the other, each with the least error for the rest that the bits before left.

    `values` is float32 [out, in]. A bit is the sign of the rest, its alpha the mean magnitude of
    the rest. `error_weights` broadcast to the values and weigh the squared error of each. Raises
    ModelError for NaN and infinity, for negative error weights, and for bits outside 1 to 8.

    Source: Guo et al., "Network sketching", 2017, algorithm 1.
    """
    return _code(values, bits, error_weights, refine=False, rounds=0)


def refined(values: Tensor, bits: int, *, error_weights: Tensor | None = None) -> Coded:
    """As `greedy`; after each bit, least squares fits the alphas of all bits so far again.

    Arguments and errors are those of `greedy`.

    Source: Guo et al., 2017, algorithm 2.
    """
    return _code(values, bits, error_weights, refine=True, rounds=0)


def alternating(values: Tensor, bits: int, *, error_weights: Tensor | None = None) -> Coded:
    """Least squares for the alphas, in turn with the best code for each value.

    Binary search finds that code among the 2**bits sums. There are two starts, the refined greedy
    codes and evenly spaced sums; each row keeps the better result. Arguments and errors are those
    of `greedy`.

    Source: Xu et al., "Alternating multi-bit quantization for recurrent neural networks", 2018,
    algorithms 1 and 2 (there from the greedy start).
    """
    return _code(values, bits, error_weights, refine=True, rounds=ROUNDS)


def _code(
    values: Tensor, bits: int, error_weights: Tensor | None, *, refine: bool, rounds: int
) -> Coded:
    check_values(values, error_weights)
    check_bits(bits)
    if not values.numel():
        empty = Binary(values.new_zeros(len(values), bits))
        return Coded(values.to(torch.uint8), empty, torch.ones(len(values)))
    error_weights = torch.ones(()) if error_weights is None else error_weights.float()
    error_weights = error_weights.expand_as(values)
    unit = torch.exp2(values.abs().amax(1, keepdim=True).clamp(min=TINY).log2().floor())
    values = (values / unit).contiguous()
    rows = max(1, VALUES_AT_ONCE // max(1, values.shape[1]))
    blocks = zip(blocks_of_rows(values, rows), blocks_of_rows(error_weights, rows), strict=True)
    parts = [_code_rows(x, w, bits, refine, rounds) for x, w in blocks]
    codes, alphas = (torch.cat(part) for part in zip(*parts, strict=True))
    alphas = compact(alphas.abs() * unit) * alphas.sign()
    if rounds:
        codes = nearest(values * unit, Binary(alphas).levels(None))
    return Coded(codes.to(torch.uint8), Binary(alphas), torch.ones(values.shape[0]))


def _code_rows(
    x: Tensor, error_weights: Tensor, bits: int, refine: bool, rounds: int
) -> tuple[Tensor, Tensor]:
    """Codes [rows, in] and alphas [rows, bits]."""
    mass = error_weights.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    alphas = x.new_zeros(x.shape[0], 0)
    codes = torch.zeros(x.shape, dtype=torch.long)
    rest = x
    for bit in range(bits):
        codes += (rest >= 0).long() << bit
        alphas = torch.cat(
            [alphas, (error_weights * rest.abs()).sum(1, keepdim=True) / mass], dim=1
        )
        if refine and bit:
            alphas = _fit(x, codes, error_weights, bit + 1)
        rest = x - _sums(codes, alphas)
    if not rounds or bits == 1:
        return codes, alphas
    starts = alphas, _even(x, error_weights, mass, bits)
    return _better(
        x, error_weights, *(_alternate(x, error_weights, start, rounds) for start in starts)
    )


def _even(x: Tensor, error_weights: Tensor, mass: Tensor, bits: int) -> Tensor:
    """Alphas whose sums are evenly spaced, at the distance that is best for a Gaussian row."""
    spread = ((error_weights * x.square()).sum(1, keepdim=True) / mass).sqrt()
    return GAUSSIAN_STEPS[bits - 1] * spread * 2.0 ** (torch.arange(bits) - 1)


def _alternate(
    x: Tensor, error_weights: Tensor, alphas: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    codes = nearest(x, _levels(alphas))
    for _ in range(rounds):
        alphas = _fit(x, codes, error_weights, alphas.shape[1])
        before, codes = codes, nearest(x, _levels(alphas))
        if torch.equal(codes, before):
            break
    return codes, alphas


def _better(
    x: Tensor, error_weights: Tensor, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """For each row, that one of two pairs of codes and alphas that has the smaller error."""
    first, second = ((error_weights * (x - _sums(*pair)).square()).sum(1) for pair in (one, other))
    where = (first <= second)[:, None]
    return torch.where(where, one[0], other[0]), torch.where(where, one[1], other[1])


def _levels(alphas: Tensor) -> Tensor:
    return alphas @ signs(alphas.shape[1]).T


def _sums(codes: Tensor, alphas: Tensor) -> Tensor:
    return _levels(alphas).gather(1, codes)


def _fit(x: Tensor, codes: Tensor, error_weights: Tensor, bits: int) -> Tensor:
    """Least squares for the alphas of each row, [rows, bits], for given codes.

    The normal equations need only the sum of the error weights and the weighted sum of the values
    of each code.
    """
    entries = 1 << bits
    shape = (x.shape[0], entries)
    mass = torch.zeros(shape, dtype=torch.float64).scatter_add_(1, codes, error_weights.double())
    total = torch.zeros(shape, dtype=torch.float64).scatter_add_(
        1, codes, (error_weights * x).double()
    )
    sign = signs(bits).double()
    gram = torch.einsum("rc,ci,cj->rij", mass, sign, sign)
    ridge = RIDGE * mass.sum(1).clamp(min=torch.finfo(torch.float32).tiny)
    gram = gram + ridge[:, None, None] * torch.eye(bits, dtype=torch.float64)
    fitted: Tensor = torch.linalg.solve(gram, total @ sign)
    return fitted.float()

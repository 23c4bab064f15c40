"""Which form each weight of an ONNX graph gets, without data: the least error for the bytes.

The error is the sum of the relative squared errors of the matrices: each counts the same. A matrix
has a few choices of rank and bits; those off the convex hull of bytes and error are left out, and
from the smallest file on, the step that removes the most error for its bytes comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tinyvox.exporters import GraphWeight
from tinyvox.model import Dense, Matrix, leaf_map
from tinyvox.passes.lowrank import decompose, product
from tinyvox.passes.quantization import relative_error
from tinyvox.quantizers import kmeans, omse

TABLE_BITS = (1, 2, 3, 4, 5, 6)
GRID_BITS = 8
RANKS = (8, 4, 2)
"""Parts of the full rank: an eighth, a quarter, a half."""
FACTOR_BITS = (4, 6)
"""Bits of the codes of factors."""


@dataclass(frozen=True)
class Choice:
    """A form of a weight: the matrix, its bytes in the file, and its relative squared error."""

    matrix: Matrix
    bytes: int
    error: float


def choices(weight: GraphWeight) -> Sequence[Choice]:
    """The forms of a weight that are worth their bytes, the smallest first."""
    found = [
        Choice(matrix, weight.cost(matrix), relative_error(weight.matrix, matrix))
        for matrix in _forms(weight.matrix)
    ]
    return _hull(found)


def _forms(matrix: Dense) -> Iterator[Matrix]:
    values = matrix.values
    yield from (kmeans(values, bits) for bits in TABLE_BITS)
    yield omse(values, GRID_BITS)
    parts, full = decompose(values), min(matrix.shape)
    for share in RANKS:
        factors = product(parts, max(1, full // share))
        for bits in FACTOR_BITS:
            yield leaf_map(lambda leaf, bits=bits: kmeans(leaf.decode(), bits))(factors)  # type: ignore[misc]


def _hull(found: Sequence[Choice]) -> Sequence[Choice]:
    """The lower left convex hull, in rising order of bytes."""
    kept: list[Choice] = []
    for choice in sorted(found, key=lambda c: (c.bytes, c.error)):
        if kept and choice.error >= kept[-1].error:
            continue
        while len(kept) > 1 and _gain(kept[-2], kept[-1]) <= _gain(kept[-2], choice):
            kept.pop()
        kept.append(choice)
    return kept


def _gain(one: Choice, other: Choice) -> float:
    """The error that a byte removes on the way from one choice to another."""
    return (one.error - other.error) / max(1, other.bytes - one.bytes)


def choose(options: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, Choice] | None:
    """The choice of each weight with the least error in all, within so many bytes; None where the
    smallest ones take more."""
    chosen = {name: each[0] for name, each in options.items()}
    left = budget - sum(choice.bytes for choice in chosen.values())
    if left < 0:
        return None
    steps = [
        (_gain(before, after), name, before, after)
        for name, each in options.items()
        for before, after in pairwise(each)
    ]
    for _, name, before, after in sorted(steps, key=lambda step: -step[0]):
        if chosen[name] is before and after.bytes - before.bytes <= left:
            chosen[name] = after
            left -= after.bytes - before.bytes
    return chosen

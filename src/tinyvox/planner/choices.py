"""What may be done to a matrix, how many bytes it then takes, and what that costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.calibration import Moments, OutputDivergence, energy
from tinyvox.model import Coded, Dense, Grid, Matrix, leaves
from tinyvox.passes import Weighting
from tinyvox.passes.lowrank import Decomposition, decompose, product
from tinyvox.passes.quantization import code
from tinyvox.quantizers import coded_bits
from tinyvox.recipe import QuantizeRule

BITS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
"""Coded bits a weight that are tried."""
MEASURED = (0.5, 1.5, 3.0)
"""Those at which the error of a matrix is measured; between them its logarithm is a line, beyond
them an error falls by 4 with every bit."""
SAMPLE = 1 << 15
"""Weights on which it is measured, about."""
RANKS = 48
"""Ranks that are tried of a matrix, at most; multiples of RANK_STEP, as kernels take columns."""
RANK_STEP = 4
TRUNCATIONS = (0.12, 0.35, 0.7)
"""Where in the list of ranks it is measured what truncation does."""
NOISES = (0.005, 0.05, 0.4)
"""Relative squared errors at which it is measured what noise does."""
TINY = 1e-30
TENSOR = 40.0
"""Bytes that a coded matrix takes besides its codes: shape, scales of its groups."""


@dataclass(frozen=True)
class Choice:
    """A rank, or the matrix as it is, and coded bits; the bytes that it takes; how far truncation
    and coding are predicted to move the model's outputs, as `OutputDivergence.distance` would have it."""

    rank: int | None
    bits: float
    size: float
    cut: float
    noise: float

    @property
    def loss(self) -> float:
        return self.cut + self.noise

    def with_bits(self, bits: float) -> Choice:
        """The same rank with a few more bits or less; an error falls by 4 with every bit."""
        size, noise = self.size * bits / self.bits, self.noise * 4 ** (self.bits - bits)
        return Choice(self.rank, round(bits, 2), size, self.cut, noise)


class Choices:
    """What may be done to one matrix of a model.

    Relative squared errors of the matrix's own outputs, by truncation and by noise, are predicted by
    formula; what either does to the outputs of the model is measured at some errors (`Curve`).
    `parts` is the decomposition, where the matrix is dense.
    """

    def __init__(
        self, name: str, matrix: Matrix, moments: Moments | None, divergence: OutputDivergence
    ) -> None:
        self.parts: Decomposition | None = None
        self.all: tuple[Choice, ...] = ()
        dense = [leaf for leaf in leaves(matrix) if isinstance(leaf, Dense)]
        if not dense:
            return
        self.divergence, self.name, self.matrix = divergence, name, matrix
        self.second_moment = moments.damped if moments else None
        self.importance = moments.importance() if moments else None
        self.sample = _Sample(matrix, moments)
        self.noise = Curve([self._add_noise(share) for share in NOISES])
        error = self.sample.errors(matrix)
        found = [Choice(None, b, _size(dense, b), 0.0, self.noise(error(b))) for b in BITS]
        if isinstance(matrix, Dense) and (ranks := _ranks(matrix.shape)):
            self.parts = decompose(matrix.values, Weighting.of(moments))
            found += self._factorized(self.parts, ranks)
        self.all = tuple(found)

    def hull(self, noise: float = 1.0) -> tuple[Choice, ...]:
        """Those that some price of a byte makes the best: on the lower convex hull of size and
        loss, where coding costs this share of what it is predicted to cost."""
        return _lower_hull(replace(each, noise=noise * each.noise) for each in self.all)

    def _add_noise(self, share: float) -> tuple[float, float]:
        """Relative squared error of the outputs, and the distance that it makes."""
        values = self.matrix.decode()
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
        if self.importance is not None:  # as codes have coarser steps where it matters less
            noise /= self.importance.sqrt().float()[:, None]
        found, whole = (
            max(energy(v, self.second_moment, self.importance), TINY) for v in (noise, values)
        )
        noise *= math.sqrt(share * whole / found)
        return share, self.divergence.distance_with({self.name: Dense(values + noise)})

    def _factorized(self, parts: Decomposition, ranks: list[int]) -> list[Choice]:
        singular = parts.singular.double()
        whole = max(float(singular.square().sum()), TINY)

        def spread(rank: int) -> float:
            """Noise of the left factor is multiplied by the right one's outputs, whose energies are
            the singular values, and the other way round."""
            return max(float(singular[:rank].sum()) ** 2 / rank / whole, TINY)

        tried = dict.fromkeys(ranks[round(i * (len(ranks) - 1))] for i in TRUNCATIONS)
        middle = list(tried)[len(tried) // 2]
        error = self.sample.errors(product(parts, middle))
        lost = Curve(
            (
                parts.tail(rank) / whole,
                self.divergence.distance_with({self.name: product(parts, rank)}),
            )
            for rank in tried
        )
        found = []
        for rank in ranks:
            cut, share = lost(parts.tail(rank) / whole), spread(rank) / spread(middle)
            for bits in BITS:
                size = 2 * TENSOR + rank * sum(self.matrix.shape) * bits / 8
                found.append(Choice(rank, bits, size, cut, self.noise(share * error(bits))))
        return found


def _size(dense: list[Dense], bits: float) -> float:
    return sum(TENSOR + leaf.shape[0] * leaf.shape[1] * bits / 8 for leaf in dense)


class _Sample:
    """Some rows of a matrix, which are coded to see what coding costs: rows do not depend on each
    other."""

    def __init__(self, matrix: Matrix, moments: Moments | None) -> None:
        rows, columns = matrix.shape
        count = min(rows, max(SAMPLE // columns, 16))
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.randperm(rows, generator=generator)[:count].sort().values
        self.second_moment = moments.damped if moments else None
        self.moments = moments
        if moments is not None and moments.fisher is not None:
            self.moments = replace(moments, fisher=moments.fisher[self.rows])
        self.whole = max(self._energy(matrix.take(rows=self.rows).decode()), TINY)

    def errors(self, matrix: Matrix) -> _Distortion:
        """Of the matrix, or of factors in its place, when its rows are coded."""
        part = matrix.take(rows=self.rows)
        points = []
        for bits in MEASURED:
            coded = code(part, QuantizeRule(method="entropy", bits=bits), self.moments, tries=1)
            error = self._energy(part.decode() - coded.decode()) / self.whole
            points.append((_bits_of(coded, bits), error))
        return _Distortion(points)

    def _energy(self, values: Tensor) -> float:
        """Of the outputs, weighed by their importance."""
        return energy(
            values, self.second_moment, self.moments.importance() if self.moments else None
        )


def _bits_of(coded: Matrix, asked: float) -> float:
    """A weight, as they came out; what was asked for where a leaf is too small to be entropy-constrained."""
    weights = bits = 0.0
    for leaf in leaves(coded):
        entropy_constrained = isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid)
        size = leaf.shape[0] * leaf.shape[1]
        weights += size
        bits += size * (coded_bits(leaf) if entropy_constrained else asked)  # type: ignore[arg-type]
    return bits / weights


class Curve:
    """A distance by the relative error that makes it: lines between measured points in logarithms,
    in proportion below the smallest."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        kept = {max(x, TINY): max(y, TINY) for x, y in sorted(points)}
        self.points = [(math.log(x), math.log(y)) for x, y in kept.items()]

    def __call__(self, error: float) -> float:
        x = math.log(max(error, TINY))
        first, last = self.points[0], self.points[-1]
        if x <= first[0]:
            return math.exp(first[1] + x - first[0])
        for (a, low), (b, high) in itertools.pairwise(self.points):
            if x <= b:
                return math.exp(low + (high - low) * (x - a) / (b - a))
        return math.exp(last[1] + x - last[0])


def _ranks(shape: tuple[int, int]) -> list[int]:
    """Up to the one at which the factors are no smaller, closer together where they are small."""
    most = shape[0] * shape[1] // (shape[0] + shape[1])
    ranks = {RANK_STEP * round(most * (i / RANKS) ** 1.5 / RANK_STEP) for i in range(1, RANKS + 1)}
    return sorted(rank for rank in ranks if 0 < rank <= most)


def _lower_hull(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """In rising order of size."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda c: (c.size, c.loss)):
        if hull and choice.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], choice):
            hull.pop()
        hull.append(choice)
    return tuple(hull)


def _slope(a: Choice, b: Choice) -> float:
    return (b.loss - a.loss) / (b.size - a.size) if b.size > a.size else -math.inf


class _Distortion:
    """Relative squared error by coded bits: its logarithm is a line between measured points, and
    falls by a factor of 4 with every bit beyond them."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        self.points = [(0.0, 0.0)]
        for bits, error in sorted(points):
            self.points.append((bits, min(math.log(max(error, TINY)), self.points[-1][1])))

    def __call__(self, bits: float) -> float:
        for (a, low), (b, high) in itertools.pairwise(self.points):
            if bits <= b:
                return math.exp(low + (high - low) * (bits - a) / (b - a))
        last, error = self.points[-1]
        return math.exp(error - (bits - last) * math.log(4))

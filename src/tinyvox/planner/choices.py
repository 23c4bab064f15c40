"""What may be done to a matrix, how many bytes it then takes, and what that costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.calibration import Moments, OutputDivergence, energy
from tinyvox.model import Coded, Dense, Grid, Matrix, leaves
from tinyvox.passes import Weighting
from tinyvox.passes.lowrank import Decomposition, decompose, product
from tinyvox.passes.quantization import code
from tinyvox.planner.curves import TINY, Curve, Distortion
from tinyvox.planner.effort import NORMAL, STEEP, STEEP_BITS, Measurements
from tinyvox.quantizers import coded_bits
from tinyvox.recipe import QuantizeRule

RANK_STEP = 4
"""Ranks that are tried are multiples of this, as kernels take columns."""
LEAST_ROWS = 16
"""Rows of a matrix that are coded to see what coding costs, at least."""
TENSOR = 40.0
"""Bytes that a coded matrix takes without its codes: shape, scales of its row groups."""


LESS = (16.0, 16.0, 16.0)
"""By what noise that costs much is divided, to see what less of it costs."""


@dataclass(frozen=True)
class Choice:
    """A rank (None for the whole matrix) and coded bits for each weight, and what they come to.

    `size` is in bytes. `cut` and `noise` are predictions of how far truncation and coding move the
    outputs of the model, in the unit of `OutputDivergence.distance`.
    """

    rank: int | None
    bits: float
    size: float
    cut: float
    noise: float

    @property
    def loss(self) -> float:
        """What truncation and coding cost together."""
        return self.cut + self.noise

    def with_bits(self, bits: float) -> Choice:
        """The same rank with slightly more or fewer bits. An error falls by 4 with every bit."""
        size, noise = self.size * bits / self.bits, self.noise * 4 ** (self.bits - bits)
        return Choice(self.rank, round(bits, 2), size, self.cut, noise)


class Choices:
    """All choices for one matrix of a model: `all`, empty where the matrix is coded already.

    The relative squared errors of the matrix's own outputs, from truncation and from coding, are
    predicted by formula. What such errors do to the outputs of the model is measured at some of
    them and interpolated (`Curve`). `parts` is the decomposition of a dense matrix.
    """

    def __init__(
        self,
        name: str,
        matrix: Matrix,
        moments: Moments | None,
        divergence: OutputDivergence,
        measured: Measurements = NORMAL.measurements,
    ) -> None:
        self.parts: Decomposition | None = None
        self.all: tuple[Choice, ...] = ()
        dense = [leaf for leaf in leaves(matrix) if isinstance(leaf, Dense)]
        if not dense:
            return
        self._divergence, self._name, self._matrix = divergence, name, matrix
        self._weighting, self._measured = Weighting.of(moments), measured
        self._sample = _Sample(matrix, moments, measured)
        points = [self._add_noise(share) for share in measured.noises]
        finer = self._with_less_noise(*min(points))
        self._cost_of_noise = Curve([*finer, *points])
        self._bits = (*measured.bits, *STEEP_BITS) if finer else measured.bits
        error = self._sample.errors(matrix)
        found = [
            Choice(None, bits, _size(dense, bits), 0.0, self._cost_of_noise(error(bits)))
            for bits in self._bits
        ]
        if isinstance(matrix, Dense) and (ranks := _ranks(matrix.shape, measured.ranks)):
            self.parts = decompose(matrix.values, self._weighting)
            found += self._factorized(self.parts, ranks)
        self.all = tuple(found)

    def hull(self, noise: float = 1.0) -> tuple[Choice, ...]:
        """The choices that are best at some price of a byte: those on the lower convex hull of size
        and loss. Coding is taken to cost this share of its predicted cost."""
        return _lower_hull(replace(each, noise=noise * each.noise) for each in self.all)

    def _add_noise(self, share: float) -> tuple[float, float]:
        """A relative squared error of the outputs, and the distance that noise of it makes."""
        values, (noise, found, whole) = self._matrix.decode(), self._noise
        return share, self._distance_of(Dense(values + noise * math.sqrt(share * whole / found)))

    def _with_less_noise(self, share: float, distance: float) -> list[tuple[float, float]]:
        """The same with less noise, until it does not cost much more than it is: beyond that, the
        distance is proportional to it. None where the least that was measured does not either."""
        found: list[tuple[float, float]] = []
        while distance > STEEP * share and len(found) < len(LESS):
            share, distance = self._add_noise(share / LESS[len(found)])
            found.append((share, distance))
        return found

    @functools.cached_property
    def _noise(self) -> tuple[Tensor, float, float]:
        """Noise, float32 [out, in], the energy of its outputs, and that of the matrix's own. There
        is more noise in rows of less importance, as codes have coarser steps there."""
        values = self._matrix.decode()
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
        second_moment, importance = self._weighting.second_moment, self._weighting.importance
        if importance is not None:
            noise /= importance.sqrt().float()[:, None]
        found, whole = (max(energy(v, second_moment, importance), TINY) for v in (noise, values))
        return noise, found, whole

    def _distance_of(self, matrix: Matrix) -> float:
        """How far the outputs of the model move where this matrix stands in place of its own."""
        return self._divergence.distance_with({self._name: matrix})

    def _factorized(self, parts: Decomposition, ranks: Sequence[int]) -> list[Choice]:
        """The choices of these ranks."""
        singular = parts.singular.double()
        whole = max(float(singular.square().sum()), TINY)

        def spread(rank: int) -> float:
            """Noise of the left factor is multiplied by the outputs of the right one, the energies
            of which are the singular values, and the other way round."""
            return max(float(singular[:rank].sum()) ** 2 / rank / whole, TINY)

        places = (round(i * (len(ranks) - 1)) for i in self._measured.truncations)
        tried = {rank: product(parts, rank) for rank in dict.fromkeys(ranks[i] for i in places)}
        middle = list(tried)[len(tried) // 2]
        error = self._sample.errors(tried[middle])
        lost = Curve(
            (parts.tail(rank) / whole, self._distance_of(factors))
            for rank, factors in tried.items()
        )
        found = []
        for rank in ranks:
            cut, share = lost(parts.tail(rank) / whole), spread(rank) / spread(middle)
            for bits in self._bits:
                size = 2 * TENSOR + rank * sum(self._matrix.shape) * bits / 8
                noise = self._cost_of_noise(share * error(bits))
                found.append(Choice(rank, bits, size, cut, noise))
        return found


def _size(dense: Sequence[Dense], bits: float) -> float:
    return sum(TENSOR + leaf.shape[0] * leaf.shape[1] * bits / 8 for leaf in dense)


class _Sample:
    """Some rows of a matrix, which are coded to see what coding costs: the codes of a row do not
    depend on other rows."""

    def __init__(self, matrix: Matrix, moments: Moments | None, measured: Measurements) -> None:
        rows, columns = matrix.shape
        count = min(rows, max(measured.sample // columns, LEAST_ROWS))
        generator = torch.Generator().manual_seed(0)
        self._bits = measured.coded_bits
        self._rows = torch.randperm(rows, generator=generator)[:count].sort().values
        self._moments = None if moments is None else moments.of_outputs(self._rows)
        self._whole = max(self._energy(matrix.take(rows=self._rows).decode()), TINY)

    def errors(self, matrix: Matrix) -> Distortion:
        """The relative error of the matrix, or of factors in its place, by its coded bits."""
        part = matrix.take(rows=self._rows)
        points = []
        for bits in self._bits:
            rule = QuantizeRule(method="entropy", bits=bits)
            coded = code(part, rule, self._moments, tries=1)
            error = self._energy(part.decode() - coded.decode()) / self._whole
            points.append((_bits_of(coded, bits), error))
        return Distortion(points)

    def _energy(self, values: Tensor) -> float:
        """The energy of the outputs, weighted by their importance."""
        weighting = Weighting.of(self._moments)
        return energy(values, weighting.second_moment, weighting.importance)


def _bits_of(coded: Matrix, asked: float) -> float:
    """Coded bits for each weight; those asked for where a leaf is too small to be
    entropy-constrained."""
    weights = bits = 0.0
    for leaf in leaves(coded):
        entropy_constrained = isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid)
        size = leaf.shape[0] * leaf.shape[1]
        weights += size
        bits += size * (coded_bits(leaf) if entropy_constrained else asked)  # type: ignore[arg-type]
    return bits / weights


def _ranks(shape: tuple[int, int], count: int) -> list[int]:
    """So many ranks at most, up to the one at which the factors are no smaller than the matrix,
    closer together where they are small."""
    most = shape[0] * shape[1] // (shape[0] + shape[1])
    ranks = {RANK_STEP * round(most * (i / count) ** 1.5 / RANK_STEP) for i in range(1, count + 1)}
    return sorted(rank for rank in ranks if 0 < rank <= most)


def _lower_hull(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """The lower convex hull of size and loss, in rising order of size."""
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

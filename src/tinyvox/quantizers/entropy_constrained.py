"""Entropy-constrained codes: the least error in so many coded bits, below one bit a weight too.

Levels are evenly spaced; a code is chosen for what it costs in the file as well as for how close it
comes, which makes the dead zone around zero as wide as it pays. `entropy` looks at one weight at a
time, `trellis` at a whole column.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox import _native
from tinyvox.model import MAX_GROUPS, Codebook, Coded, Grid
from tinyvox.quantizers.k_means import kmeans
from tinyvox.quantizers.uniform import omse
from tinyvox.quantizers.values import check_bits, check_values, compact, without_loss

PRICE = 0.1
"""Of a bit, in squared steps of a quantizer. The best value is 0.1155 at high rates (a bit there
halves the step, so it is worth 2 ln 2 times an error of 1/12); around it nothing changes much."""
SAMPLE = 1 << 17
"""Values that a step is tried on before the whole matrix."""
SEARCH, ADAPTATIONS = 12, 5
"""Halvings of the range of steps; how often choices and costs follow each other at a step."""
FULL_RUNS = 5
CLOSE, AIM = 0.995, 0.9975
"""A matrix that takes this much of the bits asked for is not fitted further; what is aimed at."""
RECORD, SMALL = 8 * 64.0, 0.25
"""Bits that a record takes besides codes, about; where that is more than this share of what the
matrix may take, it is coded by k-means of whole bits, which needs no models."""
CLASSES = (2, 4, 8, 16)
"""Numbers of groups of rows, by their size, that are held against none."""
OCTAVES, CLASS = 12, 4096
"""How far apart the importance of rows may be; weights that a class of them has at least."""
LEAST_BITS, MOST_BITS, MOST_TRELLIS_BITS = 0.05, 8.0, 5.0
EDGE = 127
"""The outermost level: 255 of them fit a byte."""
ALL_LEVELS = 2 * EDGE + 1
_NO_GROUP = np.empty(0, np.uint8)


def entropy(
    values: Tensor,
    bits: float,
    *,
    weights: Tensor | None = None,
    importance: Tensor | None = None,
) -> Coded:
    """A grid of the step that takes `bits` coded bits a weight, everything included, and codes
    that minimize error plus price times bits.

    `values` is float32 [out, in]; `weights`, which broadcast to it, say how much the squared error
    of each counts, where the step stays the same; `importance`, [out], how much those of a row
    count, and gives rows that count more a finer step. Rows of like size make a group where that
    saves more than it takes: they are coded by a model of their own. With 255 levels there is an
    end to what bits can buy: from about 6.5 bits on fewer are taken than asked for. A matrix so
    small that the record itself would be a quarter of it is coded by k-means. Raises ModelError for
    NaN and infinity, negative weights, or bits outside 0.05 to 8.

    Source: Chou, Lookabaugh, Gray, "Entropy-constrained vector quantization", 1989 (the iteration);
    Sullivan, 1996 (uniform levels with a dead zone are nearly optimal).
    """
    check_bits(bits, least=LEAST_BITS, most=MOST_BITS)
    return _fit(values, bits, weights, importance, trellis=False)


def trellis(
    values: Tensor,
    bits: float,
    *,
    weights: Tensor | None = None,
    importance: Tensor | None = None,
) -> Coded:
    """As `entropy`, with codes that follow a trellis down each column: about 0.9 dB closer at the
    same bits. Bits are 0.05 to 5.

    Source: Marcellin, "On entropy-constrained trellis coded quantization", 1994; the trellis is
    that of `native/src/trellis.h`.
    """
    check_bits(bits, least=LEAST_BITS, most=MOST_TRELLIS_BITS)
    return _fit(values, bits, weights, importance, trellis=True)


def _fit(
    values: Tensor,
    bits: float,
    weights: Tensor | None,
    importance: Tensor | None,
    *,
    trellis: bool,
) -> Coded:
    """With importance: a grid for rows that are larger the more they count, which is then undone.

    At a rate that is not too low it is best that all errors cost the same (Cover and Thomas,
    "Elements of information theory", 2006, section 10.3.3).
    """
    if importance is None:
        return _Fit(values, bits, weights, trellis=trellis).result()
    group, fineness = _fineness(importance, values.numel(), bits)
    coded = _Fit(values * fineness[:, None], bits, weights, trellis=trellis, group=group).result()
    if isinstance(coded.codebook, Grid):
        return replace(coded, scale=compact(coded.scale / fineness))
    return replace(coded, scale=coded.scale / fineness)


def _fineness(importance: Tensor, weights: int, bits: float) -> tuple[Tensor | None, Tensor]:
    """Classes of rows, uint8 [out] or none, and what their steps are divided by, float32 [out].

    Steps are 3 dB apart, and twice as far where a model a class would not pay. The finest class has
    to find its largest values, some 5 deviations, within the levels there are.
    """
    most = min(max(2 * (math.log2(EDGE) - 0.4 - bits), 0.0), OCTAVES)
    octaves = importance.clamp(min=torch.finfo(torch.float32).tiny).log2()
    octaves = (octaves - octaves.max()).clamp(min=-most)
    width = 1
    while True:
        classes = (octaves / width).round().int() * width
        levels, index = classes.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        if len(levels) * CLASS <= max(weights, CLASS):
            break
        width *= 2
    fineness = torch.exp2(classes / 2.0).float()
    return (index.to(torch.uint8) if len(levels) > 1 else None), fineness


def price_codes(coded: Coded) -> NDArray[np.float32]:
    """What each code costs by each model, in squared steps, as often as `coded` has it now."""
    grid = coded.codebook
    assert isinstance(grid, Grid)
    counts = _counts(coded, grid)
    return _prices(counts, grid.trellis)


def choose(
    coded: Coded, values: Tensor, prices: NDArray[np.float32], weights: Tensor | None = None
) -> Tensor:
    """Codes uint8 [out, n] for values [out, n] of whole columns that minimize error plus price.

    Levels, scales and groups are those of `coded`, which has one zero; `prices` as `price_codes`
    gives them. Errors are in steps of the row's own; each counts `weights` [out, n] times, a price
    counts alike for all.
    """
    grid = coded.codebook
    assert isinstance(grid, Grid)
    scale = coded.scale[:, None]
    steps = torch.where(scale > 0, values / scale, 0).T.contiguous()
    heeded = (torch.ones(1, 1) if weights is None else weights).expand_as(values).T.contiguous()
    codes = np.empty(steps.shape, np.uint8)
    group = _NO_GROUP if coded.group is None else coded.group.numpy()
    _native.choose_codes(
        steps.numpy(), heeded.numpy(), codes, prices, group, int(grid.zero[0]), grid.trellis
    )
    return torch.from_numpy(codes).T.contiguous()


def coded_bits(coded: Coded) -> float:
    """About the bits a weight that the codes take in a file, all but their scales included."""
    counts = _counts(coded, coded.codebook)
    entries = _entropy(counts) + _overhead(counts, coded.shape[0], coded.groups)
    return entries / max(1, coded.codes.numel())


def _counts(coded: Coded, book: Codebook) -> NDArray[np.uint64]:
    group = _NO_GROUP if coded.group is None else coded.group.numpy()
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    counts: NDArray[np.uint64] = _native.count_codes(
        coded.codes.numpy(), book.entries, group, coded.groups, zero
    )
    return counts


def _prices(counts: NDArray[np.uint64], trellis: bool) -> NDArray[np.float32]:
    """A quantizer of a trellis is twice as coarse as the grid. Codes that never occur are entropy-constrained as
    if they had, a little."""
    share = counts + 0.05
    bits = -np.log2(share / share.sum(axis=1, keepdims=True))
    prices: NDArray[np.float32] = (PRICE * (4 if trellis else 1) * bits).astype(np.float32)
    return prices


def _entropy(counts: NDArray[np.uint64]) -> float:
    """Bits of all codes by the best static models."""
    counts = counts[counts.sum(axis=1) > 0].astype(np.float64)
    share = counts / counts.sum(axis=1, keepdims=True)
    return float(-(counts * np.log2(share, where=share > 0, out=np.zeros_like(share))).sum())


def _overhead(counts: NDArray[np.uint64], rows: int, groups: int) -> float:
    """Bits of the record besides the codes, about: frequencies, states, the groups of the rows."""
    used = counts > 0
    frequencies = 8 * float(used.any(axis=0).sum() * 1.6 * len(counts))
    index = rows * math.log2(groups) if groups > 1 else 0.0
    return frequencies + index + 16 * groups + 8 * 44


class _Try(NamedTuple):
    coded: Coded
    counts: NDArray[np.uint64]
    bits: float
    """Coded bits a weight."""


class _Fit:
    """The search for the step of one matrix."""

    def __init__(
        self,
        values: Tensor,
        bits: float,
        weights: Tensor | None,
        *,
        trellis: bool,
        group: Tensor | None = None,
    ) -> None:
        check_values(values, weights)
        self.values, self.bits, self.trellis, self.group = values, bits, trellis, group
        self.weights = None if weights is None else weights.float().expand_as(values)
        if self.weights is not None:  # what does not count may be anything
            self.values = torch.where(self.weights > 0, values, 0)

    def result(self) -> Coded:
        entries = 1 << math.floor(max(self.bits, 0))
        found = without_loss(self.values, entries)
        if found is not None:
            return found
        if SMALL * self.bits * self.values.numel() < RECORD:
            return kmeans(self.values, max(1, math.floor(self.bits)), weights=self.weights)
        best = self._fit(self._step_of_sample())
        return trimmed(_fitted_scale(best.coded, self.values, self.weights))

    def _step_of_sample(self) -> float:
        """The step that takes the bits on some of the columns, models and groups left aside."""
        rows, columns = self.values.shape
        count = min(columns, max(8, SAMPLE // rows))
        chosen = torch.randperm(columns, generator=torch.Generator().manual_seed(0))[:count]
        part = self.values[:, chosen]
        weights = None if self.weights is None else self.weights[:, chosen]
        spread = float(part.double().square().mean().sqrt()) or float(self.values.abs().max())
        low, high = self._least_step(part, weights), 16 * spread
        for _ in range(SEARCH):
            middle = math.sqrt(low * high)
            counts = self._run(part, weights, middle, self.group).counts
            too_many = _entropy(counts) / part.numel() > self.bits
            low, high = (middle, high) if too_many else (low, middle)
        return high

    def _least_step(self, part: Tensor, weights: Tensor | None) -> float:
        """A finer grid would clip more than it gains."""
        found = omse(part, 8, weights=weights, granularity="tensor")
        return max(float(found.scale[0]), torch.finfo(torch.float32).tiny)

    def _fit(self, step: float) -> _Try:
        """The whole matrix, by the step that just fits; by that of the fewest bits if none does."""
        low, high = 0.0, math.inf
        reach = EDGE * step >= float(self.values.abs().max())
        least, best = 0.0 if reach else self._least_step(self.values, self.weights), None
        step, group = max(step, least), self.group
        for run in range(FULL_RUNS):
            found = self._run(self.values, self.weights, step, group)
            if run == 0 and group is None and (group := self._classes(found)) is not None:
                found = self._run(self.values, self.weights, step, group)
            if found.bits <= self.bits:
                best, high = found, step
                if found.bits >= CLOSE * self.bits or step <= least:
                    break
            else:
                low = step
                best = best or (found if run == FULL_RUNS - 1 else None)
            slope = min(1.0, 0.25 + 0.5 * self.bits)
            step *= 2.0 ** ((found.bits - AIM * self.bits) / slope)
            if not low < step < high:
                step = math.sqrt(low * high) if low and high < math.inf else step
            step = min(max(step, least), 16 * float(self.values.abs().max()))
        assert best is not None
        return best

    def _run(
        self,
        values: Tensor,
        weights: Tensor | None,
        step: float,
        group: Tensor | None,
    ) -> _Try:
        """Choices by what codes cost, and costs by the choices, in turn.

        Always so many times from the same start: the bits at a step fall slowly with every turn.
        """
        rows = values.shape[0]
        grid = _whole_grid(self.trellis)
        scale = torch.full((rows,), step)
        coded = Coded(torch.zeros(values.shape, dtype=torch.uint8), grid, scale, group)
        prices = self._first_prices(values, step, coded.groups)
        for _ in range(ADAPTATIONS):
            coded = coded.with_codes(choose(coded, values, prices, weights))
            found = _counts(coded, grid)
            prices = _prices(found, self.trellis)
        return _Try(coded, found, coded_bits(coded))

    def _first_prices(self, values: Tensor, step: float, groups: int) -> NDArray[np.float32]:
        """Those of a Laplacian source of this size."""
        mean = max(float(values.abs().double().mean()) / step, 1e-3)
        share = np.exp(-np.abs(np.arange(ALL_LEVELS) - EDGE) / mean)
        return _prices(
            np.tile(1e6 * share / share.sum(), (groups * (1 + self.trellis), 1)), self.trellis
        )

    def _classes(self, found: _Try) -> Tensor | None:
        """The groups of rows of like size that save most, if any does."""
        size = self.values.double().square().mean(1)
        place = size.argsort().argsort()
        best, group = found.bits, None
        for count in CLASSES:
            if count > min(MAX_GROUPS, self.values.shape[0] // 8):
                break
            classes = (place * count // len(place)).to(torch.uint8)
            grouped = coded_bits(replace(found.coded, group=classes))
            best, group = min((best, group), (grouped, classes), key=lambda pair: pair[0])
        return group


def _fitted_scale(coded: Coded, values: Tensor, weights: Tensor | None) -> Coded:
    """Least squares for the scale of each group of rows."""
    levels = coded.codes.float() - EDGE
    weighted = levels if weights is None else levels * weights
    along = (weighted * values).sum(1, dtype=torch.float64)
    norm = (weighted * levels).sum(1, dtype=torch.float64)
    index = coded.group_index
    along, norm = (torch.bincount(index, each)[index] for each in (along, norm))
    scale = torch.where((norm > 0) & (along > 0), along / norm, coded.scale.double())
    return replace(coded, scale=compact(scale.float()))


def widened(coded: Coded) -> Coded:
    """The same levels, and all others that a byte can tell apart."""
    grid = coded.codebook
    assert isinstance(grid, Grid)
    codes = coded.codes.int() - int(grid.zero[0]) + EDGE
    return replace(coded, codes=codes.to(torch.uint8), codebook=_whole_grid(grid.trellis))


def trimmed(coded: Coded) -> Coded:
    """The same levels without the outer ones that no code has; zero and one more are kept."""
    grid = coded.codebook
    assert isinstance(grid, Grid)
    zero = int(grid.zero[0])
    low = min(int(coded.codes.min()), zero) if coded.codes.numel() else zero
    high = max(int(coded.codes.max()), zero + 1) if coded.codes.numel() else zero + 1
    book = Grid(high - low + 1, torch.tensor([zero - low]), grid.trellis)
    return replace(coded, codes=coded.codes - low, codebook=book)


def _whole_grid(trellis: bool) -> Grid:
    return Grid(ALL_LEVELS, torch.tensor([EDGE]), trellis)

"""Entropy-constrained codes: the least error for so many bits in the file, also below one a value.

Levels are evenly spaced. Each code minimizes the squared error plus the price of its bits in the
file. That also determines how wide the dead zone around zero is. `entropy` chooses the code of each
value alone, `trellis` those of a whole column together.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox.model import MAX_ROW_GROUPS, Coded, Grid
from tinyvox.quantizers.k_means import kmeans
from tinyvox.quantizers.pricing import (
    choose_in_steps,
    coded_bits,
    counts_of,
    each_weight,
    entropy_bits,
    in_steps,
    prices_of,
)
from tinyvox.quantizers.step_search import StepSearch, expected_slope
from tinyvox.quantizers.uniform import omse
from tinyvox.quantizers.values import check_bits, check_values, compact, without_loss

SAMPLE = 1 << 17
"""Values on which the search for the step is made before the whole matrix is coded."""
SEARCH, ADAPTATIONS = 12, 5
"""Halvings of the range of steps; how often, at one step, codes and prices are computed in turn."""
FULL_RUNS = 5
"""How often the whole matrix is coded at most."""
CLOSE, AIM = 0.995, 0.9975
"""The search ends where the matrix takes this share of its bits; the share that it aims at."""
RECORD, SMALL = 8 * 64.0, 0.25
"""The bits of a record without its codes, approximately. Where they are more than this share of the
bits of the matrix, k-means of whole bits codes it, which needs no models of probabilities."""
SHORT = 0.8
"""Where all 255 levels take less than this share of the bits, k-means may do better."""
CLASSES = (2, 4, 8, 16)
"""Numbers of row groups that are compared with a single group; a group has rows of similar size."""
OCTAVES, CLASS = 12, 4096
"""The largest ratio between the importances of rows, as a power of two; the least number of values
in a class of rows of similar importance."""
LEAST_BITS, MOST_BITS, MOST_TRELLIS_BITS = 0.05, 8.0, 5.0
"""Bits for each value that `entropy` takes, from and to, and that `trellis` takes at most."""
GAUSSIAN = math.sqrt(2 * math.pi * math.e)
"""2 to the entropy in bits of Gaussian values of standard deviation 1."""
ROUNDING, REFINEMENTS = 0.25, 6
"""What rounding to a class may add to the binary logarithm; how often the step and the rows that
it limits are computed in turn."""
EDGE = 127
"""The outermost level; all 255 levels fit a byte."""
ALL_LEVELS = 2 * EDGE + 1
"""The number of all levels."""


def entropy(
    values: Tensor,
    bits: float,
    *,
    error_weights: Tensor | None = None,
    importance: Tensor | None = None,
) -> Coded:
    """Codes on a grid that minimize error plus price times bits, at `bits` coded bits a value.

    `values` is float32 [out, in]. `bits` includes everything that the matrix takes in the file; the
    step of the grid is chosen for it. `error_weights` broadcast to the values and weigh the squared
    error of each; they do not change the step. `importance`, [out], is the importance of the errors
    of each output; the higher it is, the finer is the step of the row.

    Rows of similar size form a row group, with its own model of probabilities, where that saves
    more bits than it takes. With 255 levels, more than about 6.5 bits cannot be used: the result
    then takes fewer bits than asked for. k-means codes a matrix so small that its record without
    codes would take a quarter of the bits, and one with values so far out that evenly spaced levels
    lose more. Raises ModelError for NaN and infinity, for negative
    error weights, and for bits outside 0.05 to 8.

    Source: Chou, Lookabaugh, Gray, "Entropy-constrained vector quantization", 1989 (the iteration);
    Sullivan, 1996 (uniform levels with a dead zone are nearly optimal).
    """
    check_bits(bits, least=LEAST_BITS, most=MOST_BITS)
    return _fit(values, bits, error_weights, importance, trellis=False)


def trellis(
    values: Tensor,
    bits: float,
    *,
    error_weights: Tensor | None = None,
    importance: Tensor | None = None,
) -> Coded:
    """As `entropy`, with codes that follow a trellis down each column; bits are 0.05 to 5.

    The error at the same bits is about 0.9 dB smaller. Arguments and errors are those of `entropy`.

    Source: Marcellin, "On entropy-constrained trellis coded quantization", 1994; the trellis is
    that of `native/src/trellis.h`.
    """
    check_bits(bits, least=LEAST_BITS, most=MOST_TRELLIS_BITS)
    return _fit(values, bits, error_weights, importance, trellis=True)


def _fit(
    values: Tensor,
    bits: float,
    error_weights: Tensor | None,
    importance: Tensor | None,
    *,
    trellis: bool,
) -> Coded:
    """One grid for all rows; with importance, rows are scaled up by it first and down again after.

    Unless the rate is very low, the best codes are those where all errors cost the same (Cover and
    Thomas, "Elements of information theory", 2006, section 10.3.3).
    """
    if importance is None:
        return _Fit(values, bits, error_weights, trellis=trellis).result()
    row_group, fineness = _fineness(values, importance, bits)
    scaled = values * fineness[:, None]
    coded = _Fit(scaled, bits, error_weights, trellis=trellis, row_group=row_group).result()
    if isinstance(coded.codebook, Grid):
        return replace(coded, scale=compact(coded.scale / fineness))
    return replace(coded, scale=coded.scale / fineness)


def _fineness(values: Tensor, importance: Tensor, bits: float) -> tuple[Tensor | None, Tensor]:
    """The class of each row, uint8 [out] or None, and the divisor of its step, float32 [out].

    No row gets a finer step than one with which the outermost level still reaches its largest
    value. Classes are 3 dB apart, or a multiple of that where a model for each class would take
    more bits than it saves.
    """
    tiny = torch.finfo(torch.float32).tiny
    wanted = importance.clamp(min=tiny).log2() / 2
    octaves = 2 * torch.minimum(wanted, _finest(values, wanted, bits))
    octaves = (octaves - octaves.max()).clamp(min=-OCTAVES)
    width = 1
    while True:
        classes = (octaves / width).round().int() * width
        levels, index = classes.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        if len(levels) * CLASS <= max(values.numel(), CLASS):
            break
        width *= 2
    fineness = torch.exp2(classes / 2.0).float()
    return (index.to(torch.uint8) if len(levels) > 1 else None), fineness


def _finest(values: Tensor, wanted: Tensor, bits: float) -> Tensor:
    """The binary logarithm of the divisor with which the largest value of a row, float32 [out], has
    the outermost level, where rows have those that are wanted or less, at so many bits a value.

    The step is that of Gaussian values, whose entropy is log2(sqrt(2 pi e) sigma / step).
    """
    tiny = torch.finfo(torch.float32).tiny
    entropy_of = (values.square().mean(1).sqrt().clamp(min=tiny) * GAUSSIAN).log2()
    reach = math.log2(EDGE) - ROUNDING - values.abs().amax(1).clamp(min=tiny).log2()
    most = torch.full_like(reach, math.inf)
    for _ in range(REFINEMENTS):
        step = (entropy_of + torch.minimum(wanted, most)).mean() - bits
        most = reach + step
    return most


class _Try(NamedTuple):
    """A matrix coded at one step."""

    coded: Coded
    counts: NDArray[np.uint64]
    bits: float
    """Coded bits for each value."""


class _Fit:
    """The search for the step of one matrix."""

    def __init__(
        self,
        values: Tensor,
        bits: float,
        error_weights: Tensor | None,
        *,
        trellis: bool,
        row_group: Tensor | None = None,
    ) -> None:
        check_values(values, error_weights)
        self.values, self.bits, self.trellis, self.row_group = values, bits, trellis, row_group
        self.error_weights = None
        if error_weights is not None:
            self.error_weights = error_weights.float().expand_as(values)
            # A value of weight zero may have any code.
            self.values = torch.where(self.error_weights > 0, values, 0)

    def result(self) -> Coded:
        entries = 1 << math.floor(max(self.bits, 0))
        found = without_loss(self.values, entries)
        if found is not None:
            return found
        if SMALL * self.bits * self.values.numel() < RECORD:
            bits = max(1, math.floor(self.bits))
            return kmeans(self.values, bits, error_weights=self.error_weights)
        best = self._fit(self._step_of_sample())
        found = trimmed(_fitted_scale(best.coded, self.values, self.error_weights))
        if self.bits < 1 or best.bits > SHORT * self.bits:
            return found
        # A few values are so far out that even spacing leaves hardly any levels for the others.
        other = kmeans(self.values, math.floor(self.bits), error_weights=self.error_weights)
        return min(found, other, key=self._error)

    def _error(self, coded: Coded) -> float:
        """The squared error of all values, as they are weighed."""
        squares = (coded.decode() - self.values).double().square()
        weights = self.error_weights
        return float((squares if weights is None else squares * weights).sum())

    def _step_of_sample(self) -> float:
        """The step at which some of the columns take these bits, without their models."""
        rows, columns = self.values.shape
        count = min(columns, max(8, SAMPLE // rows))
        chosen = torch.randperm(columns, generator=torch.Generator().manual_seed(0))[:count]
        part = self.values[:, chosen]
        error_weights = None if self.error_weights is None else self.error_weights[:, chosen]
        spread = float(part.double().square().mean().sqrt()) or float(self.values.abs().max())
        low, high = self._least_step(part, error_weights), 16 * spread
        for _ in range(SEARCH):
            middle = math.sqrt(low * high)
            counts = self._run(part, error_weights, middle, self.row_group).counts
            too_many = entropy_bits(counts) / part.numel() > self.bits
            low, high = (middle, high) if too_many else (low, middle)
        return high

    def _least_step(self, part: Tensor, error_weights: Tensor | None) -> float:
        """The smallest step that pays: a finer grid would lose more by clipping than it gains."""
        found = omse(part, 8, error_weights=error_weights, granularity="tensor")
        return max(float(found.scale[0]), torch.finfo(torch.float32).tiny)

    def _fit(self, step: float) -> _Try:
        """The whole matrix at the step that just fits; where none fits, at that of fewest bits."""
        least, best = float(self.values.abs().max()) / EDGE, None  # a finer grid cuts values off
        if step < least:
            least = min(least, self._least_step(self.values, self.error_weights))
        search = StepSearch(self.bits, max(step, least), expected_slope(self.bits), AIM)
        most, row_group = 16 * float(self.values.abs().max()), self.row_group
        for run in range(FULL_RUNS):
            found = self._run(self.values, self.error_weights, search.step, row_group)
            if run == 0 and row_group is None and (row_group := self._classes(found)) is not None:
                found = self._run(self.values, self.error_weights, search.step, row_group)
            if found.bits <= self.bits:
                best = found
                if found.bits >= CLOSE * self.bits or search.step <= least:
                    break
            else:
                best = best or (found if run == FULL_RUNS - 1 else None)
            search.step = min(max(search.next(found.bits), least), most)
        assert best is not None
        return best

    def _run(
        self,
        values: Tensor,
        error_weights: Tensor | None,
        step: float,
        row_group: Tensor | None,
    ) -> _Try:
        """Codes by their prices, and prices by the codes, in turn.

        The number of turns and the start are always the same, since the bits at a step fall slowly
        with every turn.
        """
        rows = values.shape[0]
        grid = _whole_grid(self.trellis)
        scale = torch.full((rows,), step)
        coded = Coded(torch.zeros(values.shape, dtype=torch.uint8), grid, scale, row_group)
        prices = self._first_prices(values, step, coded.row_groups)
        steps, weights = in_steps(values, scale), each_weight(error_weights, values)
        for _ in range(ADAPTATIONS):
            coded = coded.with_codes(choose_in_steps(coded, steps, weights, prices))
            found = counts_of(coded, grid)
            prices = prices_of(found, self.trellis)
        return _Try(coded, found, coded_bits(coded))

    def _first_prices(self, values: Tensor, step: float, row_groups: int) -> NDArray[np.float32]:
        """The prices for a Laplacian source with the mean magnitude of the values."""
        mean = max(float(values.abs().double().mean()) / step, 1e-3)
        share = np.exp(-np.abs(np.arange(ALL_LEVELS) - EDGE) / mean)
        models = row_groups * (1 + self.trellis)
        return prices_of(np.tile(1e6 * share / share.sum(), (models, 1)), self.trellis)

    def _classes(self, found: _Try) -> Tensor | None:
        """The row groups of similar size that save most bits; None where none saves any."""
        size = self.values.double().square().mean(1)
        place = size.argsort().argsort()
        best, row_group = found.bits, None
        for count in CLASSES:
            if count > min(MAX_ROW_GROUPS, self.values.shape[0] // 8):
                break
            classes = (place * count // len(place)).to(torch.uint8)
            grouped = coded_bits(replace(found.coded, row_group=classes))
            best, row_group = min((best, row_group), (grouped, classes), key=lambda pair: pair[0])
        return row_group


def _fitted_scale(coded: Coded, values: Tensor, error_weights: Tensor | None) -> Coded:
    """Least squares for the scale of each row group."""
    levels = coded.codes.float() - EDGE
    weighted = levels if error_weights is None else levels * error_weights
    along = (weighted * values).sum(1, dtype=torch.float64)
    norm = (weighted * levels).sum(1, dtype=torch.float64)
    index = coded.row_group_index
    along, norm = (torch.bincount(index, each)[index] for each in (along, norm))
    scale = torch.where((norm > 0) & (along > 0), along / norm, coded.scale.double())
    return replace(coded, scale=compact(scale.float()))


def widened(coded: Coded) -> Coded:
    """The same levels and values, on the grid of all 255 levels. The codebook must be a grid."""
    grid = coded.codebook
    assert isinstance(grid, Grid)
    codes = coded.codes.int() - int(grid.zero[0]) + EDGE
    return replace(coded, codes=codes.to(torch.uint8), codebook=_whole_grid(grid.trellis))


def trimmed(coded: Coded) -> Coded:
    """The same values, without the outer levels that no code has; zero and the next one stay.

    The codebook must be a grid.
    """
    grid = coded.codebook
    assert isinstance(grid, Grid)
    zero = int(grid.zero[0])
    low = min(int(coded.codes.min()), zero) if coded.codes.numel() else zero
    high = max(int(coded.codes.max()), zero + 1) if coded.codes.numel() else zero + 1
    book = Grid(high - low + 1, torch.tensor([zero - low]), grid.trellis)
    return replace(coded, codes=coded.codes - low, codebook=book)


def _whole_grid(trellis: bool) -> Grid:
    return Grid(ALL_LEVELS, torch.tensor([EDGE]), trellis)

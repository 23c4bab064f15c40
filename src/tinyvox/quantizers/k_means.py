"""k-means: the centroids of a table with the least squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import Coded, Table, nearest
from tinyvox.quantizers.values import (
    Granularity,
    at_least_two,
    blocks_of_rows,
    check_bits,
    check_values,
    row_groups,
    without_loss,
)

BINS = 1 << 16
"""Bins of the histogram: one for each float16 number."""
CELLS = 512
"""Runs of bins between which the dynamic program may cut."""
LLOYD_STEPS = 500
"""Most steps of Lloyd's method on the histogram."""
REFINEMENTS = 2
"""How often row scales and centroids are fitted in turn on the values."""
ZEROS = 0.1
"""Where this share of the values or more is zero, zero is a centroid, so that they stay zero."""


def kmeans(
    values: Tensor,
    bits: int,
    *,
    error_weights: Tensor | None = None,
    granularity: Granularity = "tensor",
) -> Coded:
    """Codes of at most `bits` bits into one table for the matrix, with one scale for each row.

    `values` is float32 [out, in]. `error_weights` broadcast to the values and weigh the squared
    error of each. With a number as `granularity`, so many consecutive rows have a table of their
    own.

    Rows are divided by their root mean square. The table is first the optimal one-dimensional
    k-means of a fine histogram. Then centroids and row scales, which are float16 numbers, are
    fitted in turn on the values. The result depends on nothing but the arguments. A matrix of at
    most 2**bits different values is coded without error. A row of zeros has scale 0. Where many
    values are zero, one centroid is zero.

    Raises ModelError for NaN and infinity, for negative error weights, for bits outside 1 to 8, and
    for more than 256 row groups.

    Sources: Han, Mao, Dally, "Deep Compression", 2015, section 3 (shared weights); Wu, "Optimal
    quantization by matrix searching", 1991 (the dynamic program); Lloyd, "Least squares
    quantization in PCM", 1982, method I (the refinement).
    """
    check_values(values, error_weights)
    check_bits(bits)
    if granularity == "row":
        raise ModelError("k-means has a table for the matrix or for a number of rows, not for each")
    if error_weights is None:
        error_weights = torch.ones(())
    row_group = row_groups(values.shape[0], granularity)
    if row_group is None:
        return _one_table(values, bits, error_weights)
    size = int(granularity)
    weights = blocks_of_rows(error_weights.expand_as(values), size)
    parts = zip(blocks_of_rows(values, size), weights, strict=True)
    return _join([_one_table(x, bits, w) for x, w in parts], row_group)


def _join(parts: list[Coded], row_group: Tensor) -> Coded:
    """Row groups that were coded one by one; shorter tables are filled with unused centroids."""
    tables = [part.codebook.levels(None)[0] for part in parts]
    entries = max(table.numel() for table in tables)
    filled = [torch.cat([t, t[-1:].expand(entries - t.numel())]) for t in tables]
    codes = torch.cat([part.codes for part in parts])
    scale = torch.cat([part.scale for part in parts])
    return Coded(codes, Table(torch.stack(filled)), scale, row_group)


def _one_table(values: Tensor, bits: int, error_weights: Tensor) -> Coded:
    lossless = without_loss(values, 1 << bits)
    if lossless is not None:
        return lossless
    unit = _unit(values)
    values = values / unit
    scale = _half(_row_size(values, error_weights))
    pin = _pin_zero if float((values == 0).float().mean()) > ZEROS else _leave
    x, weights = _normalized(values, scale), error_weights * scale[:, None].square()
    centroids = pin(_table(x, weights, 1 << bits))
    for _ in range(REFINEMENTS):
        codes = _codes(values, scale, centroids)
        scale = _fit_scale(values, centroids[codes], error_weights, scale)
        centroids = pin(_fit_table(values, codes, error_weights, scale, centroids))
    centroids = at_least_two(centroids)
    codes = _codes(values, scale, centroids)
    scale = _fit_scale(values, centroids[codes], error_weights, scale)
    return Coded(codes.to(torch.uint8), Table(centroids * unit), scale)


def _row_size(values: Tensor, error_weights: Tensor) -> Tensor:
    """The root of the weighted mean square of each row, float64 [out]."""
    weights = error_weights.expand_as(values).double()
    mass = weights.sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    return ((values.double().square() * weights).sum(1) / mass).sqrt()


def _codes(values: Tensor, scale: Tensor, centroids: Tensor) -> Tensor:
    return nearest(_normalized(values, scale), centroids[None])


def _pin_zero(centroids: Tensor) -> Tensor:
    """The centroid closest to zero becomes zero."""
    pinned = centroids.clone()
    pinned[centroids.abs().argmin()] = 0
    return pinned


def _leave(centroids: Tensor) -> Tensor:
    return centroids


def _unit(values: Tensor) -> float:
    """The power of two below the largest RMS of a row: brings row scales into float16's range."""
    largest = values.double().square().mean(1).max().sqrt()
    return float(torch.exp2(torch.floor(torch.log2(largest))))


def _half(values: Tensor) -> Tensor:
    """The values rounded to float16, as float32."""
    return values.to(torch.float16).to(torch.float32)


def _normalized(values: Tensor, scale: Tensor) -> Tensor:
    inverse = torch.where(scale > 0, 1 / scale, 0)
    return values * inverse[:, None]


def _fit_scale(values: Tensor, levels: Tensor, error_weights: Tensor, scale: Tensor) -> Tensor:
    """Least squares for each row: the scale that brings its levels closest to its values, [out]."""
    weighted = error_weights * levels
    norm = (weighted * levels).sum(1, dtype=torch.float64)
    fitted = (weighted * values).sum(1, dtype=torch.float64) / norm
    return _half(torch.where(norm > 0, fitted.clamp(min=0), scale))


def _fit_table(
    values: Tensor, codes: Tensor, error_weights: Tensor, scale: Tensor, centroids: Tensor
) -> Tensor:
    """Least squares for each centroid, for given codes and row scales."""
    entries = centroids.numel()
    factor = (error_weights * scale[:, None]).expand_as(values)
    norm = _sums(codes, factor * scale[:, None], entries)
    fitted = _sums(codes, factor * values, entries) / norm
    return torch.where(norm > 0, fitted, centroids.double()).float().sort().values


def _sums(index: Tensor, amounts: Tensor, size: int) -> Tensor:
    """The sum of the amounts at each index, float64 [size]."""
    return torch.bincount(index.flatten(), amounts.flatten().double(), size)


def _table(x: Tensor, error_weights: Tensor, entries: int) -> Tensor:
    """Centroids, rising, float32 [at most entries], of the weighted distribution of x."""
    bins = _bin(x)
    error_weights = error_weights.expand_as(x)
    mass, moment = _sums(bins, error_weights, BINS), _sums(bins, error_weights * x, BINS)
    occupied = mass > mass.sum() * 2.0**-50  # less would vanish in the prefix sums
    if not occupied.any():
        return torch.zeros(1)
    mass, moment, width = mass[occupied], moment[occupied], _bin_widths()[occupied]
    starts = _cell_starts(mass, width)
    cuts = starts[_optimal_cuts(_prefix(mass)[starts], _prefix(moment)[starts], entries)]
    return _lloyd(mass, moment, cuts).float()


def _bin(x: Tensor) -> Tensor:
    """The index of the float16 number nearest to each value, int64; indices rise with numbers."""
    pattern = x.to(torch.float16).view(torch.int16).long()  # sign and magnitude
    return torch.where(pattern < 0, -(pattern & 0x7FFF), pattern) + BINS // 2


def _bin_widths() -> Tensor:
    """The distance of each bin from the next one away from zero, float64 [BINS]."""
    magnitude = torch.arange(BINS // 2, dtype=torch.int16).view(torch.float16).double()
    width = torch.nan_to_num(magnitude.diff(append=magnitude[-1:]), 0.0, 0.0, 0.0)
    return torch.cat([width[:1], width.flip(0)[:-1], width])


def _prefix(amounts: Tensor) -> Tensor:
    return torch.cat([amounts.new_zeros(1), amounts.cumsum(0)])


def _cell_starts(mass: Tensor, width: Tensor) -> Tensor:
    """The first occupied bin of each cell, and the end, int64 [cells + 1].

    Cells hold equal shares of the cube root of the density, as the levels of an optimal fine
    quantizer do (Panter and Dite, 1951): there are many cells where the values are dense, and a far
    outlier still has a cell of its own.
    """
    bins = mass.numel()
    if bins <= CELLS:
        return torch.arange(bins + 1)
    share = _prefix(mass.pow(1 / 3) * width.pow(2 / 3))
    cell = (share / share[-1] * CELLS).long()
    first = torch.cat([torch.ones(1, dtype=torch.bool), cell[1:-1] != cell[:-2]])
    return torch.cat([first.nonzero().flatten(), torch.tensor([bins])])


def _optimal_cuts(mass: Tensor, moment: Tensor, entries: int) -> Tensor:
    """The first cell of each cluster of the best partition, and the end.

    `mass` and `moment` are prefix sums over the cells. The squared error of a partition is a
    constant minus the sum of moment**2 / mass over its clusters, so that sum is maximized:
    best[k][b] = max over a < b of best[k - 1][a] + gain[a, b].
    """
    cells = mass.numel() - 1
    gain = (moment[:, None] - moment).square() / (mass[:, None] - mass)  # [b, a]
    gain[torch.ones_like(gain).triu().bool()] = -torch.inf
    best, choices = gain[:, 0], []
    for _ in range(min(entries, cells) - 1):
        best, choice = (gain + best).max(dim=1)
        choices.append(choice)
    cuts = [cells]
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1]]))
    return torch.tensor([0, *reversed(cuts)])


def _lloyd(mass: Tensor, moment: Tensor, cuts: Tensor) -> Tensor:
    """The centroids of the clusters between the cuts, moved until no bin changes its cluster."""
    position, mass, moment = moment / mass, _prefix(mass), _prefix(moment)
    centroids = moment[cuts].diff() / mass[cuts].diff()
    for _ in range(LLOYD_STEPS):
        inner = torch.searchsorted(position, (centroids[1:] + centroids[:-1]) / 2)
        before, cuts = cuts, torch.cat([cuts[:1], inner, cuts[-1:]])
        if torch.equal(cuts, before):
            break
        inside = mass[cuts].diff()
        centroids = torch.where(inside > 0, moment[cuts].diff() / inside, centroids)
    return centroids

"""Evenly spaced levels, symmetric or asymmetric.

Their range is that of the values, or of a percentile of them, or the one with the least error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox.model import Coded, Grid, Table
from tinyvox.quantizers.values import (
    Granularity,
    blocks_of_rows,
    check_bits,
    check_values,
    compact,
    row_groups,
    scale_units,
    to_rows,
)

SCAN = 0.96
"""The ratio of one step of the scan for the best range to the step before it."""
SCANS = 100
"""Steps of the scan."""
WHOLE_SWEEP = 4096
"""Where codes can change at most so many times, every step is tried, not only those close to the
best one of the scan: with few values the error has many local minima."""
ROWS_AT_ONCE = 1 << 20
"""Values that are scanned together, so that they stay in the cache."""


def symmetric(
    values: Tensor, bits: int, *, granularity: Granularity = "row", percentile: float = 100.0
) -> Coded:
    """2**bits - 1 levels around zero (two levels for 1 bit) that span the range of the values.

    `values` is float32 [out, in]. The outermost level is the largest magnitude of a row, a row
    group or the matrix (see `granularity`), or this percentile of the magnitudes. Larger values are
    clipped; the error of the others is at most half a step. Raises ModelError for NaN and infinity,
    for bits outside 1 to 8, and for more than 256 row groups.

    Source: Jacob et al., "Quantization and training of neural networks", 2018, section 2.1.
    """
    check_values(values)
    check_bits(bits)
    limits = [_percentile(part.abs(), percentile) for part in scale_units(values, granularity)]
    return _symmetric(values, bits, torch.cat(limits), granularity)


def asymmetric(
    values: Tensor, bits: int, *, granularity: Granularity = "row", percentile: float = 100.0
) -> Coded:
    """2**bits levels from the smallest to the largest value; one of them is zero.

    Arguments and errors are those of `symmetric`; the percentile applies to both ends. Zero is
    moved to the nearest level, which may clip the ends by half a step.

    Source: Jacob et al., 2018, section 2.1 (the zero-point).
    """
    check_values(values)
    check_bits(bits)
    if not values.numel():
        return symmetric(values, bits, granularity=granularity)
    parts = scale_units(values, granularity)
    high = torch.cat([_percentile(part.clamp(min=0), percentile) for part in parts])
    low = torch.cat([_percentile(-part.clamp(max=0), percentile) for part in parts])
    entries = 1 << bits
    scale = to_rows(compact((high + low) / (entries - 1)), values.shape[0], granularity)
    low = to_rows(low, values.shape[0], granularity)
    zero = torch.where(scale > 0, low / scale, 0).round().long().clamp(0, entries - 1)
    if bool((zero == zero[0]).all()):
        zero = zero[:1]
    return _on_grid(values, Grid(entries, zero), scale, granularity)


def omse(
    values: Tensor,
    bits: int,
    *,
    error_weights: Tensor | None = None,
    granularity: Granularity = "row",
) -> Coded:
    """Symmetric levels with the step of the least squared error.

    `error_weights` broadcast to the values and weigh the squared error of each. A scan over steps
    finds where the error is lowest. In that range every step at which a value changes its code is
    tried, with the step that fits the codes best in between: the exact optimum of the range. Other
    arguments and errors are those of `symmetric`.

    Source: Choukroun et al., "Low-bit quantization of neural networks for efficient inference",
    2019, section 3.1.
    """
    check_values(values, error_weights)
    check_bits(bits)
    if not values.numel():
        return symmetric(values, bits, granularity=granularity)
    if error_weights is None:
        error_weights = torch.ones(())
    weights = scale_units(error_weights.expand_as(values), granularity)
    most = _outermost(bits)
    find = _mean if bits == 1 else partial(_best_steps, most=most)
    parts = zip(scale_units(values, granularity), weights, strict=True)
    steps = [find(part.abs(), w) for part, w in parts]
    return _symmetric(values, bits, torch.cat(steps) * most, granularity)


def _outermost(bits: int) -> int:
    """The largest level, in steps."""
    return max(1, (1 << bits - 1) - 1)


def _symmetric(values: Tensor, bits: int, limit: Tensor, granularity: Granularity) -> Coded:
    scale = to_rows(compact(limit / _outermost(bits)), values.shape[0], granularity)
    if bits == 1:
        group = row_groups(values.shape[0], granularity)
        codes = (values >= 0).to(torch.uint8)
        return Coded(codes, Table(torch.tensor([-1.0, 1.0])), scale, group)
    grid = Grid((1 << bits) - 1, torch.tensor([_outermost(bits)]))
    return _on_grid(values, grid, scale, granularity)


def _on_grid(values: Tensor, grid: Grid, scale: Tensor, granularity: Granularity) -> Coded:
    inverse = torch.where(scale > 0, 1 / scale, 0)[:, None]
    codes = ((values * inverse).round() + grid.zero[:, None]).clamp(0, grid.entries - 1)
    group = row_groups(values.shape[0], granularity)
    return Coded(codes.to(torch.uint8), grid, scale, group)


def _percentile(part: Tensor, percentile: float) -> Tensor:
    """The percentile of each row of values, which are zero or above, [rows]."""
    if percentile == 100.0:
        return part.amax(1) if part.shape[1] else part.new_zeros(part.shape[0])
    place = max(1, round(percentile / 100 * part.shape[1]))
    return part.kthvalue(place, dim=1).values


def _mean(sizes: Tensor, error_weights: Tensor) -> Tensor:
    """The best single level for each row of magnitudes: their weighted mean."""
    mass = error_weights.sum(1, dtype=torch.float64)
    return ((sizes * error_weights).sum(1, dtype=torch.float64) / mass.clamp(min=1e-300)).float()


def _best_steps(sizes: Tensor, error_weights: Tensor, most: int) -> Tensor:
    """The step of the least error for each row of magnitudes; levels are 0, 1, ... `most` steps."""
    largest = sizes.amax(1) if sizes.shape[1] else sizes.new_zeros(len(sizes))
    unit = torch.exp2(torch.floor(torch.log2(torch.where(largest > 0, largest, 1))))
    sizes = sizes / unit[:, None]
    coarse = _in_parts(sizes, error_weights, lambda a, w: _scan(a, w, most))
    rows = zip(sizes.numpy(), error_weights.numpy(), coarse.numpy(), strict=True)
    return torch.tensor([_sweep(a, w, float(step), most) for a, w, step in rows]) * unit


def _in_parts(
    sizes: Tensor, error_weights: Tensor, function: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    rows = max(1, ROWS_AT_ONCE // max(1, sizes.shape[1]))
    pairs = zip(blocks_of_rows(sizes, rows), blocks_of_rows(error_weights, rows), strict=True)
    return torch.cat([function(a, w) for a, w in pairs])


def _scan(sizes: Tensor, error_weights: Tensor, most: int) -> Tensor:
    """The best of a series of falling steps, which starts at that of the largest value, [rows]."""
    step = (sizes * (error_weights > 0)).amax(1) / most
    best, least = step.clone(), torch.full_like(step, torch.inf)
    for _ in range(SCANS):
        inverse = torch.where(step > 0, 1 / step, 0)[:, None]
        codes = (sizes * inverse).round_().clamp_(max=most)
        error = ((sizes - codes * step[:, None]).square_() * error_weights).sum(1)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
        step = step * SCAN
    return best


def _sweep(
    sizes: NDArray[np.float32], error_weights: NDArray[np.float32], near: float, most: int
) -> float:
    """The exact best step between the neighbors of `near` in the scan.

    As the step falls, value a changes from code k - 1 to k at the step a / (k - 1/2). For fixed
    codes k, the best step is S(w a k) / S(w k^2), where S is the sum over the values and w the
    error weights. The squared error is then S(w a^2) - S(w a k)^2 / S(w k^2).
    """
    if near <= 0:
        return 0.0
    a, w = sizes.astype(np.float64), error_weights.astype(np.float64)
    first = np.minimum(np.floor(a / (near / SCAN) + 0.5), most).astype(np.int64)
    last = np.minimum(np.floor(a / (near * SCAN) + 0.5), most).astype(np.int64)
    if a.size * most <= WHOLE_SWEEP:
        first, last = np.zeros_like(first), np.where(a > 0, most, 0)
    who = np.repeat(np.arange(a.size), last - first)
    code = np.arange(who.size) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
    code = code + first[who] + 1
    order = np.argsort(-a[who] / (code - 0.5), kind="stable")
    who, code = who[order], code[order]
    along = np.cumsum(np.concatenate([[(w * a * first).sum()], w[who] * a[who]]))
    norm = np.cumsum(np.concatenate([[(w * first**2).sum()], w[who] * (2 * code - 1)]))
    gain = np.divide(along**2, norm, out=np.zeros_like(along), where=norm > 0)
    best = int(gain.argmax())
    return float(along[best] / norm[best]) if norm[best] > 0 else near

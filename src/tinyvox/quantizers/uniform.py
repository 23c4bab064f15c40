"""Evenly spaced levels: symmetric and asymmetric, by range, by percentile, by least error."""

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
    to_rows,
    units,
)

SCAN = 0.96
"""Ratio of the steps between which the scan for the best clip distinguishes."""
SCANS = 100
WHOLE_SWEEP = 4096
"""Changes of codes up to which every width is tried, not only those near the scan's best: with few
values the error has many dips."""
ROWS_AT_ONCE = 1 << 20
"""Values that are scanned together, so that they stay in the cache."""


def symmetric(
    values: Tensor, bits: int, *, granularity: Granularity = "row", percentile: float = 100.0
) -> Coded:
    """2**bits - 1 levels around zero (at 1 bit the two ends), as wide as the values.

    `values` is float32 [out, in]. The outermost level is the largest magnitude of a row, a group of
    rows or the matrix, or this percentile of the magnitudes; what lies beyond it is clipped, what
    does not is off by half a step at most. Raises ModelError for NaN and infinity, bits outside 1
    to 8, or more than 256 groups.

    Source: Jacob et al., "Quantization and training of neural networks", 2018, section 2.1.
    """
    check_values(values)
    check_bits(bits)
    limits = [_percentile(part.abs(), percentile) for part in units(values, granularity)]
    return _symmetric(values, bits, torch.cat(limits), granularity)


def asymmetric(
    values: Tensor, bits: int, *, granularity: Granularity = "row", percentile: float = 100.0
) -> Coded:
    """2**bits levels from the smallest to the largest value, one of them zero.

    Range, percentile (of both ends) and errors as in `symmetric`; zero is moved to the nearest
    level, which may clip the ends by half a step.

    Source: Jacob et al., 2018, section 2.1 (the zero-point).
    """
    check_values(values)
    check_bits(bits)
    if not values.numel():
        return symmetric(values, bits, granularity=granularity)
    parts = units(values, granularity)
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
    weights: Tensor | None = None,
    granularity: Granularity = "row",
) -> Coded:
    """Symmetric levels of the width that makes the squared error least, `weights` heeded.

    A scan over widths finds where the error is lowest; there every width at which a value changes
    its code is tried, with the width that fits the codes best in between: the exact optimum of that
    range. Arguments and errors otherwise as in `symmetric`.

    Source: Choukroun et al., "Low-bit quantization of neural networks for efficient inference",
    2019, section 3.1.
    """
    check_values(values, weights)
    check_bits(bits)
    if not values.numel():
        return symmetric(values, bits, granularity=granularity)
    weight = torch.ones(()) if weights is None else weights
    heeded = units(weight.expand_as(values), granularity)
    most = _outermost(bits)
    find = _mean if bits == 1 else partial(_best_steps, most=most)
    steps = [
        find(part.abs(), w) for part, w in zip(units(values, granularity), heeded, strict=True)
    ]
    return _symmetric(values, bits, torch.cat(steps) * most, granularity)


def _outermost(bits: int) -> int:
    """The largest level in steps."""
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
    """Of each row of values that are zero or above, [units]."""
    if percentile == 100.0:
        return part.amax(1) if part.shape[1] else part.new_zeros(part.shape[0])
    place = max(1, round(percentile / 100 * part.shape[1]))
    return part.kthvalue(place, dim=1).values


def _mean(sizes: Tensor, weights: Tensor) -> Tensor:
    """The best of a single level for each row of magnitudes."""
    mass = weights.sum(1, dtype=torch.float64)
    return ((sizes * weights).sum(1, dtype=torch.float64) / mass.clamp(min=1e-300)).float()


def _best_steps(sizes: Tensor, weights: Tensor, most: int) -> Tensor:
    """For each row of magnitudes, the step that leaves the least error on 0, 1, ..., most steps."""
    largest = sizes.amax(1) if sizes.shape[1] else sizes.new_zeros(len(sizes))
    unit = torch.exp2(torch.floor(torch.log2(torch.where(largest > 0, largest, 1))))
    sizes = sizes / unit[:, None]
    coarse = _in_parts(sizes, weights, lambda a, w: _scan(a, w, most))
    rows = zip(sizes.numpy(), weights.numpy(), coarse.numpy(), strict=True)
    return torch.tensor([_sweep(a, w, float(step), most) for a, w, step in rows]) * unit


def _in_parts(
    sizes: Tensor, weights: Tensor, function: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    rows = max(1, ROWS_AT_ONCE // max(1, sizes.shape[1]))
    pairs = zip(blocks_of_rows(sizes, rows), blocks_of_rows(weights, rows), strict=True)
    return torch.cat([function(a, w) for a, w in pairs])


def _scan(sizes: Tensor, weights: Tensor, most: int) -> Tensor:
    """The best of steps from that of the largest value downwards, [rows]."""
    step = (sizes * (weights > 0)).amax(1) / most
    best, least = step.clone(), torch.full_like(step, torch.inf)
    for _ in range(SCANS):
        inverse = torch.where(step > 0, 1 / step, 0)[:, None]
        codes = (sizes * inverse).round_().clamp_(max=most)
        error = ((sizes - codes * step[:, None]).square_() * weights).sum(1)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
        step = step * SCAN
    return best


def _sweep(
    sizes: NDArray[np.float32], weights: NDArray[np.float32], near: float, most: int
) -> float:
    """The best step within a scan's distance from `near`, exactly.

    From the largest step downwards, value a changes from code k - 1 to k at a / (k - 1/2). With the
    codes k fixed, the best step is S(w a k) / S(w k^2) and leaves S(w a^2) less that numerator
    squared over that denominator.
    """
    if near <= 0:
        return 0.0
    a, w = sizes.astype(np.float64), weights.astype(np.float64)
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

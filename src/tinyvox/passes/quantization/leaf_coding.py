"""The codes of one dense matrix, by a rule of a recipe."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tinyvox.calibration import energy
from tinyvox.model import Coded, Grid, Table, in_bytes
from tinyvox.passes.least_squares import UNWEIGHTED, Weighting
from tinyvox.passes.quantization.error_compensation import compensate
from tinyvox.passes.quantization.finalizing import finalize_leaf
from tinyvox.quantizers import (
    QUANTIZERS,
    StepSearch,
    coded_bits,
    compact,
    price_codes,
    trimmed,
    widened,
)
from tinyvox.recipe import QuantizeRule

CORRECTIONS, CLOSE, AIM = 8, 0.99, 0.997
"""How often a step is tried with error compensation, at most; the share of the bits asked for that
is close enough, and the share that is aimed at."""


def code_leaf(
    values: Tensor, rule: QuantizeRule, weighting: Weighting = UNWEIGHTED, tries: int = CORRECTIONS
) -> Coded:
    """The codes that a rule gives for a matrix, float32 [out, in].

    Errors are compensated where the rule asks for it and the second moment of the inputs is known.
    `tries` is how often the step is changed, at most, to come to the bits of the rule.
    """
    second_moment = weighting.second_moment if rule.error_compensation else None
    coded = finalize_leaf(codes_by_rule(values, rule, weighting.importance))
    if rule.entropy_constrained and isinstance(coded.codebook, Table):
        coded = replace(coded, codebook=in_bytes(coded.codebook))  # what it costs is then known
    if second_moment is not None and rule.entropy_constrained and isinstance(coded.codebook, Grid):
        coded = _compensate_within(values, coded, second_moment, rule.bits, tries)
    elif second_moment is not None:
        coded = compensate(values, coded, second_moment)
    return unbiased(values, coded, second_moment) if rule.unbiased else coded


def _compensate_within(
    values: Tensor, coded: Coded, second_moment: Tensor, bits: float, tries: int
) -> Coded:
    """Error compensation with entropy-constrained codes. It changes how many bits the codes take in
    the file, so the step is changed until they take as many as were asked for."""
    base = widened(coded)
    prices = price_codes(base)
    search = StepSearch(bits, 1.0, min(1.0, 0.3 + 0.4 * bits), AIM, octaves=1.0, learns_slope=True)
    least = _least_step(values, base)
    found: list[tuple[float, Coded]] = []
    for _ in range(tries):
        wide = replace(base, scale=compact(base.scale * search.step))
        fed = compensate(values, wide, second_moment, prices)
        found.append((coded_bits(fed), fed))
        fits = found[-1][0] <= bits
        if fits and (found[-1][0] >= CLOSE * bits or search.step <= least):
            break
        search.step = max(search.next(found[-1][0]), least)
    inside = [each for each in found if each[0] <= bits]
    best = max(inside, key=lambda f: f[0]) if inside else min(found, key=lambda f: f[0])
    if best[0] >= CLOSE * bits or coded_bits(base) > bits:
        return trimmed(best[1])
    # No finer grid pays. Codes that give every value, or nearly, need no compensation.
    lost = (energy(values - each.decode(), second_moment, None) for each in (base, best[1]))
    return coded if next(lost) <= next(lost) else trimmed(best[1])


def _least_step(values: Tensor, wide: Coded) -> float:
    """How much smaller the steps of a grid may become before it cuts off values that it reaches: a
    finer grid would lose more by that than it gains. 1 where it cuts some off already."""
    reach = (wide.codebook.entries // 2) * wide.scale
    needed = values.abs().amax(1) / reach.clamp(min=torch.finfo(torch.float32).tiny)
    return min(1.0, float(needed.max()))


def codes_by_rule(values: Tensor, rule: QuantizeRule, importance: Tensor | None = None) -> Coded:
    """The codes that the method of a rule gives for a matrix, float32 [out, in], without error
    compensation. Entropy-constrained methods weight the errors of outputs by `importance` [out]."""
    method = QUANTIZERS[rule.method]
    options = {name: getattr(rule, name) for name in method.options}
    if method.entropy_constrained:
        options["importance"] = importance
    options = {name: value for name, value in options.items() if value is not None}
    return method.quantize_values(values, rule.bits, **options)


def unbiased(values: Tensor, coded: Coded, second_moment: Tensor | None = None) -> Coded:
    """The same codes with row scales such that no row is shorter along its original than that.

    Least squares make a row q of codes too short along its original w: <q, w> = (1 - D) |w|^2 at a
    relative error D, and these losses add up over layers and frames. Times |w|^2 / <q, w>, only an
    error at right angles to w is left. Scalar products are over inputs of this second moment.

    Source of the scale: Vargaftik et al., "EDEN", 2022, section 3 (there for gradients).
    """
    wide, decoded = values.double(), coded.decode().double()
    weighed = wide if second_moment is None else wide @ second_moment
    own, along = (weighed * wide).sum(1), (weighed * decoded).sum(1)
    if coded.shares_scale and len(own) > 1:
        index = coded.row_group_index
        own, along = (torch.bincount(index, each)[index] for each in (own, along))
    gain = torch.where(along > 0.1 * own, own / along, 1.0).float()
    return replace(coded, scale=compact(coded.scale * gain))

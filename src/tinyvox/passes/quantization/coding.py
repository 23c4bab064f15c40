"""Quantization: every dense matrix becomes codes into a codebook."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, CalibratedStatistics, Moments, Statistics
from tinyvox.errors import ModelError
from tinyvox.model import (
    Binary,
    Coded,
    Dense,
    Grid,
    Matrix,
    Model,
    Product,
    Table,
    leaf_map,
    leaves,
    on_grid,
)
from tinyvox.passes.bias_correction import correct_biases
from tinyvox.passes.error_compensation import (
    compensate,
    importance_of,
    importance_of_middle,
    inner_second_moment,
    second_moment_of,
    shared_importance,
    with_right,
)
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.passes.quantization.sequential import SequentialFit
from tinyvox.quantizers import (
    ALL_LEVELS,
    QUANTIZERS,
    SMALLEST_NORMAL,
    choose,
    coded_bits,
    compact,
    price_codes,
    trimmed,
    widened,
)
from tinyvox.recipe import QuantizeRule, QuantizeSettings, first_match

CORRECTIONS, CLOSE = 8, 0.99
"""How often a step is tried with error compensation; the share of the bits asked for that will do."""


def quantize(
    model: Model, settings: QuantizeSettings, statistics: Statistics = NO_STATISTICS
) -> Outcome:
    """Code the dense matrices, factors of products included; round the vectors.

    Where there is statistics of what a matrix is multiplied by, each error is made up for by codes
    that are chosen after it (`passes.error_compensation`), and by the left factor for the right one. A factor
    that products share is coded once, by the rule of the first of them.

    A `sequential` step takes matrices in the order in which they are computed, and fits each to
    what reaches it by then (`passes.sequential`); biases are corrected on the way.

    Small tables come to lie on the kernels' grid (`matrix.on_grid`), so that the native runtime
    multiplies by the very weights that the model holds.

    Raises RecipeError for a pattern that matches no matrix, ModelError, with the layer, for values
    that cannot be quantized.
    """
    rules = settings.in_order()
    patterns = [pattern for rule in rules for pattern in rule.layers]
    check_patterns(patterns, [name for name, _ in model.matrices()], "quantize")
    factors = _shared_factors(model, rules, statistics)
    changed: dict[str, Matrix | Tensor] = {}
    notes = []
    fit = (
        SequentialFit(model, statistics)
        if settings.sequential and isinstance(statistics, CalibratedStatistics)
        else None
    )
    if settings.sequential and fit is None:
        notes.append(Note("all layers", "not sequential: nothing is known of what they are given"))
    for name, matrix in model.matrices():
        rule, moments = first_match(rules, name), statistics.get(name)
        reason = _reason_against(matrix, rule)
        if reason is not None:
            kept = _with_factor(matrix, factors, moments.damped if moments else None)
            if kept is not matrix:
                changed[name] = kept
                if fit:
                    fit.replace(name, kept)
                reason += "; a factor is coded that it shares"
            notes.append(Note(name, f"left alone: {reason}"))
            continue
        assert rule is not None
        fitted, moments = fit.fit(name) if fit else (matrix, moments)
        with _naming(name):
            changed[name] = coded = code(fitted, rule, moments, factors=factors)
        if fit:
            fit.put(name, coded)
        error = relative_error(matrix, coded)
        what = f"{rule.bits:g} bits ({rule.method}), relative squared error {error:.3g}"
        if rule.entropy_constrained and any(_is_table(leaf) for leaf in leaves(coded)):
            what += f"; too small for {rule.method} in part or whole, which is k-means"
        if fit and fitted is matrix:
            what += "; not fitted: its inputs are not told, or weights of it are zero and stay so"
        notes.append(Note(name, what))
    small = (fit.model if fit else model).with_tensors(changed)
    if settings.correct and not fit:
        small, more = correct_biases(model, small, statistics)
        notes.extend(more)
    small, vector_notes = round_vectors(small, settings.vectors)
    return Outcome(small, (*notes, *vector_notes))


def _reason_against(matrix: Matrix, rule: QuantizeRule | None) -> str | None:
    dense = sum(isinstance(leaf, Dense) for leaf in leaves(matrix))
    if not dense:
        return "it is coded already"
    return "no rule matches it, it stays float32" if rule is None else None


def _is_table(leaf: Dense | Coded) -> bool:
    return isinstance(leaf, Coded) and isinstance(leaf.codebook, Table)


@contextlib.contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Faults with the name of the layer."""
    try:
        yield
    except ModelError as fault:
        raise ModelError(f"layer {layer!r}: {fault}") from None


_Factors = Mapping[Matrix, Matrix]
"""Right factors that products share, as they are coded."""


def code(
    matrix: Matrix,
    rule: QuantizeRule,
    moments: Moments | None,
    tries: int = CORRECTIONS,
    factors: _Factors = MappingProxyType({}),
) -> Matrix:
    """The dense leaves coded; `moments` is what is known of inputs and outputs. Of a rule that
    takes coded bits, with one of `tries` they are only roughly as many as that says."""
    second_moment = moments.damped if moments else None
    importance = moments.importance() if moments else None
    return _code(matrix, rule, second_moment, importance, factors, tries)


def _shared_factors(
    model: Model, rules: Sequence[QuantizeRule], statistics: Statistics
) -> _Factors:
    """Each coded for what is known of its products together; as it is where the first of them has
    no rule."""
    matrices = dict(model.matrices())
    coded: dict[Matrix, Matrix] = {}
    for factor, names in model.shared_factors().items():
        rule, second_moment = first_match(rules, names[0]), second_moment_of(statistics, names)
        users = [m for m in map(matrices.get, names) if isinstance(m, Product)]
        importances = [importance_of(statistics, name) for name in names]
        importance = shared_importance(users, second_moment, importances)
        with _naming(names[0]):
            coded[factor] = _code(factor, rule, second_moment, importance) if rule else factor
    return coded


def _code(
    matrix: Matrix,
    rule: QuantizeRule,
    second_moment: Tensor | None,
    importance: Tensor | None,
    factors: _Factors = MappingProxyType({}),
    tries: int = CORRECTIONS,
) -> Matrix:
    """The dense leaves coded; `second_moment`, [in, in], is what is known of the inputs, `importance`,
    [out], of the outputs."""
    if isinstance(matrix, Coded):
        return matrix
    if isinstance(matrix, Dense):
        return code_leaf(matrix.values, rule, second_moment, importance, tries)
    right = factors.get(matrix.right)
    if right is None:
        middle = importance_of_middle(matrix.left.decode(), importance)
        right = _code(matrix.right, rule, second_moment, middle, tries=tries)
    fitted = with_right(matrix, right, second_moment)
    inner = None if second_moment is None else inner_second_moment(right.decode(), second_moment)
    return Product(_code(fitted.left, rule, inner, importance, tries=tries), right)


def _with_factor(matrix: Matrix, factors: _Factors, second_moment: Tensor | None) -> Matrix:
    """What is not coded itself, with its shared factor as that is coded."""
    if not isinstance(matrix, Product):
        return matrix
    right = factors.get(matrix.right, matrix.right)
    return matrix if right is matrix.right else with_right(matrix, right, second_moment)


def code_leaf(
    values: Tensor,
    rule: QuantizeRule,
    second_moment: Tensor | None,
    importance: Tensor | None = None,
    tries: int = CORRECTIONS,
) -> Coded:
    """The codes of one matrix by a rule: float32 [out, in], the second moment of its inputs,
    float64 [in, in], and how much errors of its outputs count, [out], where they are known."""
    second_moment = second_moment if rule.error_compensation else None
    coded = _finalize_leaf(codes_by_rule(values, rule, importance))
    if second_moment is not None and rule.entropy_constrained and isinstance(coded.codebook, Grid):
        coded = _compensate_within(values, coded, second_moment, rule.bits, tries)
    elif second_moment is not None:
        coded = compensate(values, coded, second_moment)
    return unbiased(values, coded, second_moment) if rule.unbiased else coded


def _compensate_within(
    values: Tensor, coded: Coded, second_moment: Tensor, bits: float, tries: int
) -> Coded:
    """Error compensation with codes that are chosen by price. It moves what they come to in the file,
    so the step is changed until that is what was asked for."""
    base = widened(coded)
    prices = price_codes(base)
    low, high, factor = 0.0, math.inf, 1.0  # of the step: bits too many, bits that fit
    found: list[tuple[float, float, Coded]] = []
    for _ in range(tries):
        wide = replace(base, scale=compact(base.scale * factor))
        fed = compensate(values, wide, second_moment, functools.partial(_choose, wide, prices))
        found.append((coded_bits(fed), factor, fed))
        if CLOSE * bits <= found[-1][0] <= bits:
            break
        low, high = (low, factor) if found[-1][0] <= bits else (factor, high)
        factor *= _step_factor([pair[:2] for pair in found], bits)
        if not low < factor < high:
            factor = math.sqrt(low * high)
    inside = [each for each in found if each[0] <= bits]
    best = max(inside, key=lambda f: f[0]) if inside else min(found, key=lambda f: f[0])
    return trimmed(best[2])


def _choose(wide: Coded, prices: NDArray[np.float32], column: Tensor, weights: Tensor) -> Tensor:
    return choose(wide, column, prices, weights)


def _step_factor(found: list[tuple[float, float]], bits: float) -> float:
    """By how much the step has to grow, from what its logarithm last did to the bits; pairs of bits
    and steps."""
    slope = min(1.0, 0.3 + 0.4 * bits)
    if len(found) > 1:
        (before, a), (now, b) = found[-2:]
        moved = math.log2(b / a)
        if abs(moved) > 1e-4:
            slope = min(max((before - now) / moved, 0.1), 2.0)
    wanted = 2.0 ** min(max((found[-1][0] - 0.997 * bits) / slope, -1.0), 1.0)
    return float(wanted)


def codes_by_rule(values: Tensor, rule: QuantizeRule, importance: Tensor | None = None) -> Coded:
    """The codes that a rule's method gives for a matrix, float32 [out, in], without error compensation;
    `importance` [out] says how much errors of its outputs count, which entropy-constrained methods heed."""
    method = QUANTIZERS[rule.method]
    options = {name: getattr(rule, name) for name in method.options}
    if method.entropy_constrained:
        options["importance"] = importance
    options = {name: value for name, value in options.items() if value is not None}
    return method.quantize_values(values, rule.bits, **options)


def unbiased(values: Tensor, coded: Coded, second_moment: Tensor | None = None) -> Coded:
    """The same codes, with row scales that make each row as long along its original as that is.

    Least squares leave a row q of codes short of its original w: <q, w> = (1 - D) |w|^2 at a
    relative error D, and what so many layers and frames lose adds up. Multiplied by |w|^2 / <q, w>,
    what is left of the error is at right angles to w. `second_moment` weighs the products of columns.

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


def relative_error(matrix: Matrix, other: Matrix) -> float:
    """Squared difference over the squared norm of the first; 0 where both are zero."""
    values = matrix.decode()
    error = (values - other.decode()).double().square().sum()
    return float(error / values.double().square().sum().clamp(min=torch.finfo(torch.float64).tiny))


def finalize(model: Model, vectors: Literal["float16", "float32"]) -> Model:
    """A quantized model as the file stores it best, after training has moved its numbers.

    Centroids in rising order and on the kernels' grid again; row scales, and vectors if asked,
    rounded to float16.
    """
    finalize_leaves = leaf_map(
        lambda leaf: _finalize_leaf(leaf) if isinstance(leaf, Coded) else leaf
    )
    finalized = model.map_matrices(lambda _, matrix: finalize_leaves(matrix))
    return round_vectors(finalized, vectors).model


def _finalize_leaf(leaf: Coded) -> Coded:
    leaf = replace(leaf, scale=compact(leaf.scale) if bool((leaf.scale >= 0).all()) else leaf.scale)
    book = leaf.codebook
    if isinstance(book, Binary):
        return replace(leaf, codebook=Binary(compact(book.alphas.abs()) * book.alphas.sign()))
    if isinstance(book, Grid) and book.entries == ALL_LEVELS and not book.trellis:
        return trimmed(leaf)
    if not isinstance(book, Table) or book.centroids.ndim > 1:
        return leaf
    centroids, order = book.centroids.sort()
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel())
    codes = place[leaf.codes.long()].to(torch.uint8)
    return replace(leaf, codes=codes, codebook=Table(on_grid(centroids)))


def with_all_levels(matrix: Matrix) -> Matrix:
    """Codes on a grid, with every level that a byte can tell apart; `finalize` drops those unused."""

    def widen(leaf: Dense | Coded) -> Matrix:
        on_grid = isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid)
        return widened(leaf) if on_grid else leaf  # type: ignore[arg-type]

    return leaf_map(widen)(matrix)


def _half(values: Tensor) -> Tensor:
    return values.to(torch.float16).to(torch.float32)


def round_vectors(model: Model, precision: Literal["float16", "float32"]) -> Outcome:
    """Biases and normalization vectors as float16, where that holds them."""
    if precision == "float32":
        return Outcome(model, (Note("vectors", "left alone: float32 was asked for"),))
    changed: dict[str, Matrix | Tensor] = {}
    notes = []
    for name, vector in model.vectors():
        if not torch.isfinite(_half(vector)).all():
            notes.append(Note(name, "left alone: float16 cannot hold its largest value"))
        elif name.endswith((".variance", ".limits")) and float(vector.min()) < SMALLEST_NORMAL:
            notes.append(Note(name, "left alone: float16 would lose its smallest value"))
        else:
            changed[name] = _half(vector)
    notes.append(Note("vectors", f"{len(changed)} rounded to float16"))
    return Outcome(model.with_tensors(changed), tuple(notes))

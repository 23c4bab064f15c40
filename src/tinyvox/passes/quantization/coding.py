"""Quantization: every dense matrix becomes codes into a codebook."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments, Statistics
from tinyvox.errors import ModelError
from tinyvox.model import Coded, Dense, Matrix, Model, Product, Table, leaves
from tinyvox.passes.bias_correction import correct_biases
from tinyvox.passes.least_squares import Weighting, shared_weighting, with_factor, with_right
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.passes.quantization.finalizing import in_half, relative_error, round_vectors
from tinyvox.passes.quantization.leaf_coding import CORRECTIONS, code_leaf
from tinyvox.passes.quantization.sequential import SequentialFit
from tinyvox.recipe import HALF_BITS, QuantizeRule, QuantizeSettings, first_match

AGAIN = 2
"""How often a matrix is fitted again whose inputs depend on its own codes."""

_Factors = Mapping[Matrix, Matrix]
"""Right factors that products share, and the same in codes."""


def quantize(
    model: Model, settings: QuantizeSettings, statistics: Mapping[str, Moments] = NO_STATISTICS
) -> Outcome:
    """Code the dense matrices, factors of products included; round the vectors.

    Where there are statistics of a matrix, later codes compensate for the errors of earlier ones
    (`compensate`), and the left factor of a product for those of the right one. A factor that
    products share is coded once, by the rule of the first of them.

    With `settings.sequential`, matrices are coded in the order in which they are computed, and each
    is fitted to the inputs that it then has (`SequentialFit`); biases are corrected on the way.

    Small tables are placed on the kernels' grid (`model.on_grid`), so that the native runtime
    multiplies by exactly the weights that the model holds.

    Raises RecipeError for a pattern that matches no matrix, ModelError, with the layer, for values
    that cannot be quantized.
    """
    patterns = [pattern for rule in settings.in_order() for pattern in rule.layers]
    check_patterns(patterns, [name for name, _ in model.matrices()], "quantize")
    work = _Quantization(model, settings, Statistics.of(statistics))
    for name, matrix in model.matrices():
        work.take(name, matrix)
    small, notes = work.model(), work.notes
    if settings.correct and work.fit is None:
        small, more = correct_biases(model, small, statistics)
        notes.extend(more)
    small, vector_notes = round_vectors(small, settings.vectors)
    return Outcome(small, (*notes, *vector_notes))


class _Quantization:
    """The matrices of a model while they are coded one after the other."""

    def __init__(self, model: Model, settings: QuantizeSettings, statistics: Statistics) -> None:
        self.rules, self.statistics, self.original = settings.in_order(), statistics, model
        self.factors = _shared_factors(model, self.rules, statistics)
        self.changed: dict[str, Matrix | Tensor] = {}
        self.notes: list[Note] = []
        self.fit: SequentialFit | None = None
        if settings.sequential and statistics.model is not None:
            self.fit = SequentialFit(model, statistics)
        elif settings.sequential:
            self.notes.append(Note("all layers", "not sequential: there are no statistics"))

    def take(self, name: str, matrix: Matrix) -> None:
        """Code the matrix of this name, or leave it alone, and note it."""
        rule = first_match(self.rules, name)
        reason = _reason_against(matrix, rule)
        if reason is not None:
            self._leave(name, matrix, reason)
        else:
            assert rule is not None
            self._code(name, matrix, rule)

    def model(self) -> Model:
        """The model with all that has been coded."""
        return (self.fit.model if self.fit else self.original).with_tensors(self.changed)

    def _leave(self, name: str, matrix: Matrix, reason: str) -> None:
        """Leave a matrix alone but for a factor that it shares with one that is coded."""
        second_moment = Weighting.of(self.statistics.get(name)).second_moment
        kept = with_factor(matrix, self.factors, second_moment)
        if kept is not matrix:
            self.changed[name] = kept
            if self.fit:
                self.fit.replace(name, kept)
            reason += "; a factor is coded that it shares"
        self.notes.append(Note(name, f"left alone: {reason}"))

    def _code(self, name: str, matrix: Matrix, rule: QuantizeRule) -> None:
        fitted, coded = self._fitted(name, matrix, rule)
        for _ in range(AGAIN if self.fit and self.fit.feeds_back(name) else 0):
            fitted, coded = self._fitted(name, matrix, rule)
        self.changed[name] = coded
        error = relative_error(matrix, coded)
        how = "float16" if rule.bits == HALF_BITS else f"{rule.bits:g} bits ({rule.method})"
        what = f"{how}, relative squared error {error:.3g}"
        if rule.entropy_constrained and any(_is_table(leaf) for leaf in leaves(coded)):
            what += f"; too small for {rule.method} in part or whole, which is k-means"
        if self.fit and fitted is matrix:
            what += "; not fitted: its inputs are not known, or some of its weights stay zero"
        self.notes.append(Note(name, what))

    def _fitted(self, name: str, matrix: Matrix, rule: QuantizeRule) -> tuple[Matrix, Matrix]:
        """The matrix as it is fitted, if it is, and its codes."""
        moments = self.statistics.get(name)
        if self.fit:
            matrix, moments = self.fit.fit(name)
        with _naming(name):
            coded = code(matrix, rule, moments, factors=self.factors)
        if self.fit:
            self.fit.put(name, coded)
        return matrix, coded


def _reason_against(matrix: Matrix, rule: QuantizeRule | None) -> str | None:
    if not any(isinstance(leaf, Dense) for leaf in leaves(matrix)):
        return "it is coded already"
    return "no rule matches it, it stays float32" if rule is None else None


def _is_table(leaf: Dense | Coded) -> bool:
    return isinstance(leaf, Coded) and isinstance(leaf.codebook, Table)


@contextlib.contextmanager
def _naming(layer: str) -> Iterator[None]:
    """Add the name of the layer to ModelErrors."""
    try:
        yield
    except ModelError as fault:
        raise ModelError(f"layer {layer!r}: {fault}") from None


def code(
    matrix: Matrix,
    rule: QuantizeRule,
    moments: Moments | None,
    tries: int = CORRECTIONS,
    factors: _Factors = MappingProxyType({}),
) -> Matrix:
    """The matrix with its dense leaves coded by a rule; `moments` are its statistics, where known.

    With one of `tries`, entropy-constrained codes take only roughly the bits of the rule. `factors`
    are the right factors that are coded already.
    """
    return _code(matrix, rule, Weighting.of(moments), factors, tries)


def _shared_factors(
    model: Model, rules: Sequence[QuantizeRule], statistics: Statistics
) -> _Factors:
    """The shared right factors, each coded by the statistics of all its products; as it is where
    the first of them has no rule."""
    coded: dict[Matrix, Matrix] = {}
    for factor, names in model.shared_factors().items():
        rule = first_match(rules, names[0])
        products = [m for m in map(model.matrix, names) if isinstance(m, Product)]
        weightings = [Weighting.of(statistics.get(name)) for name in names]
        with _naming(names[0]):
            shared = shared_weighting(products, weightings)
            coded[factor] = _code(factor, rule, shared) if rule else factor
    return coded


def _code(
    matrix: Matrix,
    rule: QuantizeRule,
    weighting: Weighting,
    factors: _Factors = MappingProxyType({}),
    tries: int = CORRECTIONS,
) -> Matrix:
    """The matrix with its dense leaves coded by a rule."""
    if isinstance(matrix, Coded):
        return matrix
    if isinstance(matrix, Dense):
        half = rule.bits == HALF_BITS
        return in_half(matrix) if half else code_leaf(matrix.values, rule, weighting, tries)
    right = factors.get(matrix.right)
    if right is None:
        of_right = weighting.for_right(matrix.left.decode())
        right = _code(matrix.right, rule, of_right, tries=tries)
    left = with_right(matrix, right, weighting.second_moment).left
    return Product(_code(left, rule, weighting.for_left(right.decode()), tries=tries), right)

"""Which matrices need more than 8 bits, found out by running the model: as inputs in the native
runtime, or as weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from tinyvox.model import MAX_CODE_BITS, Coded, Dense, Matrix, Model, leaf_map
from tinyvox.passes import Note
from tinyvox.passes.quantization import in_half
from tinyvox.workflow.comparison import Comparison, apart, by_runtime, by_torch

SHARE, LEAST = 0.25, 5e-4
"""Inputs of 8 bits may cost this share of what the small weights cost, or this squared error
relative to the variance of the outputs, before some become finer."""
MOST_OF_EIGHT = 1e-3
"""Weights of 8 bits cost next to nothing. Where those of one matrix cost more than this squared
error, relative to the variance of the outputs, it stays in float16."""


def with_fine_inputs(model: Model, comparison: Comparison) -> tuple[Model, tuple[Note, ...]]:
    """The model with 16 bits for the inputs of those matrices where 8 cost most; as it is where
    they cost little.

    The cost of each is measured: how far the outputs move in the native runtime where it alone has
    inputs of 8 bits. The largest costs go, until the others are small together. Factors of products
    are matrices of their own.
    """
    coded = {leaf: name for name, leaf in model.leaves() if isinstance(leaf, Coded)}
    exact = by_torch(model, comparison.features)
    allowed = LEAST + SHARE * apart(comparison.outputs, exact)
    coarse = by_runtime(_fine(model, ()), comparison.features)
    if coarse is None or not coded or apart(exact, coarse) <= allowed:
        return _fine(model, ()), ()
    costs = {}
    for leaf in coded:
        found = by_runtime(_fine(model, coded.keys() - {leaf}), comparison.features)
        assert found is not None  # it has run the model before
        costs[leaf] = apart(exact, found)
    fine = dict(costs)
    for leaf in sorted(costs, key=lambda leaf: costs[leaf]):
        if costs[leaf] > allowed:
            break
        allowed -= fine.pop(leaf)
    notes = (
        Note(coded[leaf], f"inputs of 16 bits, as 8 cost {cost:.2g}") for leaf, cost in fine.items()
    )
    return _fine(model, fine), tuple(notes)


def with_halves(
    small: Model, original: Model, comparison: Comparison
) -> tuple[Model, tuple[Note, ...]]:
    """A quantized model with float16 in place of those matrices of 8 bits that alone move the
    outputs of the original by more than 8 bits should."""
    names = [name for name, matrix in small.matrices() if _has_eight_bits(matrix)]
    whole = apart(comparison.outputs, by_torch(small, comparison.features)) if names else 0.0
    if whole <= MOST_OF_EIGHT:
        return small, ()
    halves: dict[str, Matrix] = {}
    notes = []
    for name in names:
        values = original.matrix(name)
        alone = original.with_tensors({name: small.matrix(name)})
        cost = apart(comparison.outputs, by_torch(alone, comparison.features))
        if cost > MOST_OF_EIGHT and isinstance(values, Dense):
            halves[name] = in_half(values)
            notes.append(Note(name, f"left in float16, as 8 bits cost {cost:.2g}"))
    return small.with_tensors(halves), tuple(notes)


def _has_eight_bits(matrix: Matrix) -> bool:
    return isinstance(matrix, Coded) and matrix.bits == MAX_CODE_BITS


def _fine(model: Model, fine: Container[Dense | Coded]) -> Model:
    """The model in which the inputs of these leaves, and of no others, are fine."""

    def change(leaf: Dense | Coded) -> Matrix:
        if isinstance(leaf, Dense) or leaf.fine_input == (leaf in fine):
            return leaf
        return dataclasses.replace(leaf, fine_input=leaf in fine)

    changed = leaf_map(change)
    return model.map_matrices(lambda _, matrix: changed(matrix))

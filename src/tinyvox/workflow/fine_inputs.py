"""Which matrices need inputs of 16 bits in the native runtime, found out by running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from tinyvox.model import Coded, Dense, Matrix, Model, leaf_map, leaves
from tinyvox.passes import Note
from tinyvox.workflow.comparison import Comparison, apart, by_runtime, by_torch

SHARE, LEAST = 0.25, 5e-4
"""Inputs of 8 bits may cost this share of what the small weights cost, or this squared error
relative to the variance of the outputs, before some become finer."""


def with_fine_inputs(model: Model, comparison: Comparison) -> tuple[Model, tuple[Note, ...]]:
    """The model with 16 bits for the inputs of those matrices where 8 cost most; as it is where
    they cost little.

    The cost of each is measured: how far the outputs move in the native runtime where it alone has
    inputs of 8 bits. The largest costs go, until the others are small together.
    """
    names = [name for name, matrix in model.matrices() if _is_coded(matrix)]
    exact = by_torch(model, comparison.features)
    allowed = LEAST + SHARE * apart(comparison.outputs, exact)
    coarse = by_runtime(_fine(model, ()), comparison.features)
    if coarse is None or not names or apart(exact, coarse) <= allowed:
        return model, ()
    costs = {}
    for name in names:
        found = by_runtime(_fine(model, set(names) - {name}), comparison.features)
        assert found is not None  # it has run the model before
        costs[name] = apart(exact, found)
    fine = dict(costs)
    for name in sorted(costs, key=lambda name: costs[name]):
        if costs[name] > allowed:
            break
        allowed -= fine.pop(name)
    notes = (Note(name, f"inputs of 16 bits, as 8 cost {cost:.2g}") for name, cost in fine.items())
    return _fine(model, fine), tuple(notes)


def _is_coded(matrix: Matrix) -> bool:
    return any(isinstance(leaf, Coded) for leaf in leaves(matrix))


def _fine(model: Model, names: Container[str]) -> Model:
    """The model in which the inputs of these matrices, and of no others, are fine; a factor that
    products share is fine for all or none."""
    fine = {leaf for name, matrix in model.matrices() if name in names for leaf in leaves(matrix)}

    def change(leaf: Dense | Coded) -> Matrix:
        if isinstance(leaf, Dense) or leaf.fine_input == (leaf in fine):
            return leaf
        return dataclasses.replace(leaf, fine_input=leaf in fine)

    changed = leaf_map(change)
    return model.map_matrices(lambda _, matrix: changed(matrix))

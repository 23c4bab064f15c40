"""Quantized models in the form in which the file holds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tinyvox.model import (
    Binary,
    Coded,
    Dense,
    Grid,
    Matrix,
    Model,
    Table,
    leaf_map,
    on_grid,
)
from tinyvox.passes.outcome import Note, Outcome
from tinyvox.quantizers import ALL_LEVELS, SMALLEST_NORMAL, compact, trimmed, widened


def finalize(model: Model, vectors: Literal["float16", "float32"]) -> Model:
    """A quantized model after training, in the form in which the file holds it.

    Centroids are in rising order and on the kernels' grid again; row scales, and vectors if asked,
    are rounded to float16.
    """
    finalize_leaves = leaf_map(
        lambda leaf: finalize_leaf(leaf) if isinstance(leaf, Coded) else leaf
    )
    finalized = model.map_matrices(lambda _, matrix: finalize_leaves(matrix))
    return round_vectors(finalized, vectors).model


def finalize_leaf(leaf: Coded) -> Coded:
    """`finalize` for one leaf."""
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


def in_half(matrix: Dense) -> Dense:
    """The values rounded to float16, which the file holds in 2 bytes each; as they are where some
    lie beyond its range."""
    values = matrix.values.half().float()
    return Dense(values) if bool(values.isfinite().all()) else matrix


def relative_error(matrix: Matrix, other: Matrix) -> float:
    """Squared difference over the squared norm of the first; 0 where both are zero."""
    values = matrix.decode()
    error = (values - other.decode()).double().square().sum()
    return float(error / values.double().square().sum().clamp(min=torch.finfo(torch.float64).tiny))


def with_all_levels(matrix: Matrix) -> Matrix:
    """The matrix with all 255 levels in every codebook that is a grid, as training may need them;
    `finalize` drops those that are not used."""

    def widen(leaf: Dense | Coded) -> Matrix:
        on_grid = isinstance(leaf, Coded) and isinstance(leaf.codebook, Grid)
        return widened(leaf) if on_grid else leaf  # type: ignore[arg-type]

    return leaf_map(widen)(matrix)


def _half(values: Tensor) -> Tensor:
    return values.to(torch.float16).to(torch.float32)


def round_vectors(model: Model, precision: Literal["float16", "float32"]) -> Outcome:
    """The model with biases and normalization vectors rounded to float16, where that holds them."""
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

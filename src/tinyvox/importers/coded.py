"""Weights that were quantized before they came: their codes, found again by their scales."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tinyvox.model import Coded, Dense, Grid, Matrix, Model

_MOST = 255
"""Most steps between the smallest and the largest value of a row, so that codes have 8 bits."""


def coded(model: Model, scales: Iterable[float]) -> Model:
    """The model with every dense matrix whose values lie on a grid as codes, no value changed.

    `scales` are the steps of the grids in the file. A row lies on a grid where all its values are
    whole multiples of one of them, to the last bit. What was transposed, cut or put in another
    order on the way is found all the same; a matrix with some other row stays as it is.
    """
    steps = torch.tensor(sorted(set(scales)), dtype=torch.float32)
    steps = steps[steps > 0]
    if not steps.numel():
        return model
    found: dict[str, Matrix | Tensor] = {}
    for name, matrix in model.matrices():
        if isinstance(matrix, Dense):
            codes = _on_grids(matrix.values, steps)
            if codes is not None:
                found[name] = codes
    return model.with_tensors(found)


def _on_grids(values: Tensor, steps: Tensor) -> Coded | None:
    """The matrix as codes; None where some row lies on no grid."""
    for step in _candidates(values[0], steps):  # one step for the whole matrix
        multiples = _multiples(values, step.expand(len(values)))
        if multiples is not None:
            return _grid(multiples, step.expand(len(values)))
    chosen = torch.zeros(len(values))
    for i, row in enumerate(values):
        fits = (s for s in _candidates(row, steps) if _multiples(row[None], s[None]) is not None)
        step = next(fits, None)
        if step is None:
            return None
        chosen[i] = step
    multiples = _multiples(values, chosen)
    return None if multiples is None else _grid(multiples, chosen)


def _candidates(row: Tensor, steps: Tensor) -> Tensor:
    """The steps that the largest value of a row is a multiple of, the coarsest first."""
    largest = row.abs().max()
    counts = (largest / steps).round()
    return steps[(counts <= _MOST) & (counts * steps == largest)].flip(0)


def _multiples(values: Tensor, steps: Tensor) -> Tensor | None:
    """How many steps each value is, int32; None where one is no whole number of them."""
    counts = (values / steps[:, None]).round()
    return counts.int() if torch.equal(counts * steps[:, None], values) else None


def _grid(multiples: Tensor, steps: Tensor) -> Coded | None:
    low, high = int(multiples.min().clamp(max=0)), int(multiples.max().clamp(min=0))
    if high - low > _MOST:
        return None
    book = Grid(max(high - low + 1, 2), torch.tensor([-low]))
    return Coded((multiples - low).to(torch.uint8), book, steps.clone())

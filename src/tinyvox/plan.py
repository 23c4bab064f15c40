"""A budget in, a recipe out."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.errors import RecipeError
from tinyvox.matrix import Coded, Dense, leaves
from tinyvox.model import Model
from tinyvox.passes.factorize import decompose, factorize
from tinyvox.passes.quantize import quantize
from tinyvox.recipe import FactorizeSettings, QuantizeSettings, Recipe

RANKS = (None, 0.75, 0.625, 0.5, 0.4375, 0.375, 0.3125, 0.25, 0.21875, 0.1875, 0.15625, 0.125,
         0.09375, 0.0625, 0.046875, 0.03125, 0.0234375, 0.015625)  # fmt: skip
"""Fractions of the full rank that are tried, None for the whole matrix."""
BITS = (8, 7, 6, 5, 4, 3, 2)
_ENTROPY_SHARE = 0.7
"""Codes of b bits are taken to need at least this share of b, to skip what cannot fit."""
FILE_OVERHEAD = 640
NODE_OVERHEAD = 48
TENSOR_OVERHEAD = 32


@dataclass(frozen=True)
class _Candidate:
    """Settings, the bytes that the file would have, and the relative squared error they cost."""

    rank: float | None
    bits: int
    size: int
    loss: float

    def recipe(self) -> Recipe:
        steps = [] if self.rank is None else [FactorizeSettings(rank=self.rank)]
        return Recipe.of(*steps, QuantizeSettings(bits=self.bits))


def plan(
    model: Model,
    *,
    ratio: float | None = None,
    size: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Recipe:
    """The recipe, without data, that loses least among those that reach a ratio or a size.

    One rank (a fraction of the full one) and one number of bits for the whole model: every rank of
    a ladder is taken with the most bits that fit the budget, and the squared error of the weights,
    relative to their energy, decides. `size` is in bytes; `ratio` counts 4 bytes a parameter of
    the original. Raises RecipeError with the smallest size that can be reached.
    """
    original = 4 * model.original_parameters
    if (ratio is None) == (size is None):
        raise RecipeError("a plan needs one of ratio and size")
    for name, value in (("ratio", ratio), ("size", size)):
        if value is not None and not 0 < value < math.inf:
            raise RecipeError(f"the {name} to reach is {value}, expected a number above 0")
    budget = int(original / ratio) if ratio is not None else size
    assert budget is not None
    search = _Search(model, budget, progress or (lambda _: None))
    best = search.run()
    if best is None:
        raise RecipeError(
            f"no plan fits {budget} bytes; the smallest that can be reached without fine-tuning is "
            f"about {search.smallest} bytes, a ratio of {original / search.smallest:.1f}"
        )
    return best.recipe()


class _Search:
    """Walks down the ladder of ranks; decomposes every matrix once."""

    def __init__(self, model: Model, budget: int, progress: Callable[[str], None]) -> None:
        self.model, self.budget, self.progress = model, budget, progress
        self.decomposition = functools.cache(decompose)
        energy = sum(_energy(m.decode()) for _, m in model.matrices())
        self.energy = max(energy, torch.finfo(torch.float64).tiny)
        self.smallest = 0

    def run(self) -> _Candidate | None:
        best: _Candidate | None = None
        sizes = []
        for rank in RANKS:
            model = self._factorized(rank)
            if best is not None and self._loss(model) >= best.loss:
                break
            self.progress(f"planning: rank {rank or 1.0}")
            candidate = self._most_bits(rank, model)
            sizes.append(candidate.size)
            if candidate.size <= self.budget and (best is None or candidate.loss < best.loss):
                best = candidate
        self.smallest = min(sizes)
        return best

    def _factorized(self, rank: float | None) -> Model:
        if rank is None:
            return self.model
        settings = FactorizeSettings(rank=rank)
        return factorize(self.model, settings, decomposition=self.decomposition).model

    def _most_bits(self, rank: float | None, model: Model) -> _Candidate:
        """The first rung that fits; the lowest one where none does."""
        weights = sum(
            leaf.shape[0] * leaf.shape[1] for _, m in model.matrices() for leaf in leaves(m)
        )
        for bits in BITS:
            if bits > BITS[-1] and weights * bits * _ENTROPY_SHARE / 8 > self.budget:
                continue
            small = quantize(model, QuantizeSettings(bits=bits)).model
            size = estimate_bytes(small)
            if size <= self.budget or bits == BITS[-1]:
                break
        return _Candidate(rank, bits, size, self._loss(small))

    def _loss(self, model: Model) -> float:
        pairs = zip(self.model.matrices(), model.matrices(), strict=True)
        return sum(_energy(a.decode() - b.decode()) for (_, a), (_, b) in pairs) / self.energy


def _energy(values: Tensor) -> float:
    return float(values.double().square().sum())


def estimate_bytes(model: Model) -> int:
    """About the size of the model's .tvx file: codes at their empirical entropy."""
    matrices = sum(_leaf_bytes(leaf) for _, matrix in model.matrices() for leaf in leaves(matrix))
    vectors = sum(TENSOR_OVERHEAD + _vector_bytes(vector) for _, vector in model.vectors())
    described = len(json.dumps(dict(model.provenance), default=str))
    if model.card is not None:
        described += len(model.card.model_dump_json())
    nodes = NODE_OVERHEAD * len(model.nodes)
    return round(matrices + vectors) + nodes + described + FILE_OVERHEAD


def _leaf_bytes(leaf: Dense | Coded) -> float:
    rows, columns = leaf.shape
    if isinstance(leaf, Dense):
        return TENSOR_OVERHEAD + 4 * rows * columns
    entries = leaf.codebook.centroids.numel()
    counts = torch.bincount(leaf.codes.flatten().int(), minlength=entries).double()
    shares = counts[counts > 0] / counts.sum()
    codes = -float((shares * shares.log2()).sum()) * rows * columns / 8
    return TENSOR_OVERHEAD + codes + 6 * entries + _vector_bytes(leaf.scale)


def _vector_bytes(vector: Tensor) -> int:
    exact = torch.equal(vector, vector.to(torch.float16).to(torch.float32))
    return (2 if exact else 4) * vector.numel()

"""Low-rank factorisation: a matrix becomes the product of two thinner ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.evidence import NOTHING, Evidence
from tinyvox.matrix import Coded, Dense, Matrix, Product
from tinyvox.model import Model
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import FactorizeSettings, matches


class Decomposition(NamedTuple):
    """`left * singular @ right`: [out, full], [full] falling, [full, in]."""

    left: Tensor
    singular: Tensor
    right: Tensor

    def tail(self, rank: int) -> float:
        """The squared error of the best approximation of this rank."""
        return float(self.singular[rank:].double().square().sum())


def decompose(
    values: Tensor, metric: Tensor | None = None, importance: Tensor | None = None
) -> Decomposition:
    """The singular value decomposition of a matrix.

    With `metric`, the second moment of its inputs (float64 [in, in], positive definite), of its
    outputs rather: truncation then loses the least of their energy, and `right` has no longer rows
    of length 1. `importance`, [out], says how much the energy of each output counts; columns of
    `left` have no longer length 1 then.

    Source: Eckart and Young in the metric's norm, as in Acharya et al., "Online embedding
    compression", 2019, and Chen et al., "DRONE", 2021; with Fisher information of rows, Hsu et al.,
    "Language model compression with weighted low-rank factorization", 2022.
    """
    if metric is None and importance is None:
        return Decomposition(*torch.linalg.svd(values, full_matrices=False))
    weight = torch.ones(len(values)) if importance is None else importance.sqrt()
    root = torch.eye(values.shape[1]) if metric is None else torch.linalg.cholesky(metric)
    root, weight = root.double(), weight.double()[:, None]
    left, singular, right = torch.linalg.svd(weight * values.double() @ root, full_matrices=False)
    right = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return Decomposition((left / weight).float(), singular.float(), right.float())


def factorize(
    model: Model,
    settings: FactorizeSettings,
    evidence: Evidence = NOTHING,
    *,
    known: Callable[[str], Decomposition] | None = None,
) -> Outcome:
    """Replace the dense matrices that match by their best approximation of a lower rank: best for
    their inputs where there is evidence of them. `known` gives decompositions made before.

    Both factors get the square root of the singular values, so that quantisation finds them alike.
    Left alone where the factors would hold as many weights as the matrix, or more. Raises
    RecipeError for a pattern that matches no matrix.

    Source: Eckart and Young, 1936 (the approximation); Prabhavalkar et al., "On the compression of
    recurrent neural networks", 2016, section 2 (for recurrent acoustic models).
    """
    check_patterns(settings.layers, [name for name, _ in model.matrices()], "factorize")
    changed: dict[str, Matrix | Tensor] = {}
    notes = []
    for name, matrix in model.matrices():
        reason = _reason_against(name, matrix, settings)
        if reason is None:
            assert isinstance(matrix, Dense)
            parts = _parts(name, matrix, evidence) if known is None else known(name)
            rank = _fixed_rank(matrix.shape, settings) or _rank_for(parts, settings.energy or 1.0)
            reason = _too_large(matrix.shape, rank)
        if reason is not None:
            notes.append(Note(name, f"left alone: {reason}"))
            continue
        changed[name] = product(parts, rank)
        lost = parts.tail(rank) / max(parts.tail(0), torch.finfo(torch.float64).tiny)
        full = parts.singular.numel()
        notes.append(Note(name, f"rank {rank} of {full}, relative squared error {lost:.3g}"))
    return Outcome(model.with_tensors(changed), tuple(notes))


def _parts(name: str, matrix: Dense, evidence: Evidence) -> Decomposition:
    moments = evidence.get(name)
    if moments is None:
        return decompose(matrix.values)
    return decompose(matrix.values, moments.damped(), moments.importance())


def _reason_against(name: str, matrix: Matrix, settings: FactorizeSettings) -> str | None:
    """Why a matrix is left alone, where that is known before it is decomposed."""
    if not matches(settings.layers, name):
        return "no pattern matches it"
    if isinstance(matrix, Product):
        return f"it is a product of rank {matrix.rank} already"
    if isinstance(matrix, Coded):
        return "it is coded already; factorize before you quantize"
    rank = _fixed_rank(matrix.shape, settings)
    return None if rank is None else _too_large(matrix.shape, rank)


def _too_large(shape: tuple[int, int], rank: int) -> str | None:
    factors, whole = rank * sum(shape), shape[0] * shape[1]
    if factors < whole:
        return None
    return f"at rank {rank} the factors hold {factors} weights, the matrix {whole}"


def _fixed_rank(shape: tuple[int, int], settings: FactorizeSettings) -> int | None:
    """The rank that does not depend on the values, if one was asked for."""
    if settings.rank is None:
        return None
    if isinstance(settings.rank, int):
        return min(*shape, settings.rank)
    return max(1, round(settings.rank * min(shape)))


def _rank_for(parts: Decomposition, energy: float) -> int:
    kept = parts.singular.double().square().cumsum(0)
    return int((kept < energy * kept[-1]).sum()) + 1


def product(parts: Decomposition, rank: int) -> Product:
    """The approximation of this rank, balanced."""
    root = parts.singular[:rank].sqrt()
    left, right = parts.left[:, :rank] * root, root[:, None] * parts.right[:rank]
    return Product(Dense(left.contiguous()), Dense(right.contiguous()))

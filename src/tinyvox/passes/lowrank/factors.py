"""Low-rank factorization: a matrix becomes the product of two thinner ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tinyvox.calibration import NO_STATISTICS, Moments, energy
from tinyvox.model import Coded, Dense, Matrix, Model, Product
from tinyvox.passes.least_squares import UNWEIGHTED, Weighting
from tinyvox.passes.lowrank.shared_projection import readers, stack
from tinyvox.passes.outcome import Note, Outcome, check_patterns
from tinyvox.recipe import FactorizeSettings, matches

ALONE = 0.1
"""The share of the cost of errors that is taken from every output alone."""
LARGE = 1024
"""Rows and columns from which on a matrix is decomposed by way of its Gram matrix."""


class Decomposition(NamedTuple):
    """A matrix as `left * singular @ right`: [out, full], [full] in falling order, [full, in]."""

    left: Tensor
    singular: Tensor
    right: Tensor

    def tail(self, rank: int) -> float:
        """The squared error of the best approximation of this rank."""
        return float(self.singular[rank:].double().square().sum())


def decompose(values: Tensor, weighting: Weighting = UNWEIGHTED) -> Decomposition:
    """The singular value decomposition of a matrix, float32 [out, in].

    With a weighting, truncation loses the least of the energy of the outputs, for inputs of its
    second moment, each output weighted by its importance. The rows of `right` and the columns of
    `left` then do not have length 1. Where the sensitivity to the inputs is known, the outputs are
    weighted together, so that directions go first in which the errors of several outputs cancel:
    truncation loses the least of what its error costs.

    Source: Eckart and Young in the second moment's norm, as in Acharya et al., "Online embedding
    compression", 2019, and Chen et al., "DRONE", 2021; with Fisher information of rows, Hsu et al.,
    "Language model compression with weighted low-rank factorization", 2022; with the Fisher
    information of inputs and outputs together, Martens and Grosse, "K-FAC", 2015, section 3.
    """
    second_moment, importance = weighting.second_moment, weighting.importance
    if second_moment is None and importance is None:
        return Decomposition(*torch.linalg.svd(values, full_matrices=False))
    weight = torch.ones(len(values)) if importance is None else importance.sqrt()
    root = (
        torch.eye(values.shape[1])
        if second_moment is None
        else torch.linalg.cholesky(second_moment)
    )
    root, weight = root.double(), weight.double()[:, None]
    if weighting.sensitivity is not None and second_moment is not None:
        return _by_sensitivity(values, weighting, root)
    left, singular, right = _svd(weight * values.double() @ root)
    right = torch.linalg.solve_triangular(root, right, upper=False, left=False)
    return Decomposition((left / weight).float(), singular.float(), right.float())


def _by_sensitivity(values: Tensor, weighting: Weighting, root: Tensor) -> Decomposition:
    """The decomposition that loses least of what errors cost, by `root` of the second moment. A
    share of the cost is that of the single outputs: larger errors also matter where the gradient
    has been zero."""
    second_moment, importance = weighting.second_moment, weighting.importance
    assert second_moment is not None
    assert weighting.sensitivity is not None
    wide = values.double()
    alone = (wide if importance is None else wide * importance[:, None]).T @ wide
    costs = [(each * second_moment).sum() for each in (weighting.sensitivity, alone)]
    together = weighting.sensitivity * (costs[1] / costs[0].clamp(min=1e-30))
    cost = root.T @ ((1 - ALONE) * together + ALONE * alone) @ root
    energies, vectors = torch.linalg.eigh(cost)
    full = min(values.shape)
    vectors, singular = vectors.flip(1)[:, :full], energies.flip(0)[:full].clamp(min=0).sqrt()
    left = torch.where(singular > 0, wide @ (root @ vectors) / singular, 0)
    right = torch.linalg.solve_triangular(root, vectors.T.contiguous(), upper=False, left=False)
    return Decomposition(left.float(), singular.float(), right.float())


def _svd(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The thin singular value decomposition of float64 values.

    A large matrix is decomposed by the eigenvectors of its Gram matrix, in half the time. Singular
    values below about 1e-7 of the largest one are inexact then, but the product of the parts up to
    any rank is still the projection on the first eigenvectors.
    """
    if min(values.shape) <= LARGE:
        left, singular, right = torch.linalg.svd(values, full_matrices=False)
        return left, singular, right
    if values.shape[0] < values.shape[1]:
        right, singular, left = _svd(values.T)
        return left.T, singular, right.T
    energies, vectors = torch.linalg.eigh(values.T @ values)
    vectors = vectors.flip(1)
    left = values @ vectors
    singular = energies.flip(0).clamp(min=0).sqrt()
    left = torch.where(singular > 0, left / singular, 0)
    return left, singular, vectors.T


def factorize(
    model: Model,
    settings: FactorizeSettings,
    statistics: Mapping[str, Moments] = NO_STATISTICS,
    *,
    known: Callable[[str], Decomposition] | None = None,
) -> Outcome:
    """Replace the dense matrices that match by their best approximation of a lower rank, for their
    inputs where there are statistics of them. `known` gives decompositions that were made before.

    Both factors get the square root of the singular values, so that they have like scales for
    quantization. A matrix is left alone where the factors would hold as many weights as it has, or
    more. With `settings.shared_projection`, matrices that read the same hidden state are factorized
    as one (`shared_projection.stack`), and share the right factor. Raises RecipeError for a pattern
    that matches no matrix.

    Source: Eckart and Young, 1936 (the approximation); Prabhavalkar et al., "On the compression of
    recurrent neural networks", 2016, section 2 (for recurrent acoustic models).
    """
    matrices = dict(model.matrices())
    check_patterns(settings.layers, list(matrices), "factorize")
    changed: dict[str, Matrix | Tensor] = {}
    said: dict[str, str] = {}
    remarks: dict[str, str] = {}
    if settings.shared_projection:
        sets, remarks = _shared_sets(model, settings)
        for names in sets:
            some = {name: matrices[name] for name in names}
            for name, factored, what in _together(some, settings, statistics):
                changed[name], said[name] = factored, what
    for name, matrix in matrices.items():
        if name not in said:
            changed[name], said[name] = _alone(name, matrix, settings, statistics, known)
    notes = tuple(Note(name, said[name] + remarks.get(name, "")) for name in matrices)
    return Outcome(model.with_tensors(changed), notes)


def _alone(
    name: str,
    matrix: Matrix,
    settings: FactorizeSettings,
    statistics: Mapping[str, Moments],
    known: Callable[[str], Decomposition] | None,
) -> tuple[Matrix, str]:
    """The factors of a matrix, or itself, and the note about it."""
    reason = _reason_against(name, matrix, settings)
    if reason is None:
        assert isinstance(matrix, Dense)
        weighting = Weighting.of(statistics.get(name))
        parts = decompose(matrix.values, weighting) if known is None else known(name)
        rank = _fixed_rank(matrix.shape, settings) or _rank_for(parts, settings.energy or 1.0)
        reason = _too_large(matrix.shape, rank)
    if reason is not None:
        return matrix, f"left alone: {reason}"
    lost = parts.tail(rank) / max(parts.tail(0), torch.finfo(torch.float64).tiny)
    what = f"rank {rank} of {parts.singular.numel()}, relative squared error {lost:.3g}"
    return product(parts, rank), what


def _shared_sets(
    model: Model, settings: FactorizeSettings
) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """The names of the matrices that are to share a factor, and remarks on those that read the
    state of a cell but do not share one."""

    def free(name: str) -> bool:
        return matches(settings.layers, name) and isinstance(model.matrix(name), Dense)

    sets: list[tuple[str, ...]] = []
    remarks: dict[str, str] = {}
    for found in readers(model):
        names = tuple(filter(free, found.names))
        if found.recurrent in names and len(names) > 1:
            sets.append(names)
        elif found.recurrent in names:
            remarks[found.recurrent] = "; on its own: no other matrix that matches reads its state"
        if found.recurrent in names:
            remarks |= {n: f"; on its own: {why}" for n, why in found.others.items() if free(n)}
    return sets, remarks


def _together(
    matrices: Mapping[str, Matrix], settings: FactorizeSettings, statistics: Mapping[str, Moments]
) -> Iterator[tuple[str, Matrix, str]]:
    """Matrices of one input with one right factor, and the note about each."""
    whole = stack(matrices, statistics)
    shape = whole.values.shape[0], whole.values.shape[1]
    parts = decompose(whole.values, whole.weighting)
    rank = _fixed_rank(shape, settings) or _rank_for(parts, settings.energy or 1.0)
    reason = _too_large(shape, rank)
    factors = product(parts, rank)
    lefts = whole.unstack(factors.left.decode())
    for (name, matrix), left in zip(matrices.items(), lefts, strict=True):
        others = " and ".join(other for other in matrices if other != name)
        if reason is not None:
            yield name, matrix, f"left alone: with {others}, {reason}"
            continue
        factored = Product(Dense(left), factors.right)
        values = matrix.decode()
        least = torch.finfo(torch.float64).tiny
        lost = energy(values - factored.decode(), whole.weighting.second_moment)
        lost /= max(energy(values, whole.weighting.second_moment), least)
        what = f"rank {rank} of {parts.singular.numel()}, the right factor shared with {others}"
        yield name, factored, f"{what}, relative squared error {lost:.3g}"


def _reason_against(name: str, matrix: Matrix, settings: FactorizeSettings) -> str | None:
    """Why a matrix is left alone, where no decomposition is needed to know it."""
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
    """The rank that was asked for as a number or a share; None where it depends on the values."""
    if settings.rank is None:
        return None
    if isinstance(settings.rank, int):
        return min(*shape, settings.rank)
    return max(1, round(settings.rank * min(shape)))


def _rank_for(parts: Decomposition, energy: float) -> int:
    kept = parts.singular.double().square().cumsum(0)
    return int((kept < energy * kept[-1]).sum()) + 1


def product(parts: Decomposition, rank: int) -> Product:
    """The best approximation of this rank, both factors with the root of the singular values."""
    root = parts.singular[:rank].sqrt()
    left, right = parts.left[:, :rank] * root, root[:, None] * parts.right[:rank]
    return Product(Dense(left.contiguous()), Dense(right.contiguous()))

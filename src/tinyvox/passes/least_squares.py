"""Least squares for the factors of a matrix, by the statistics of its inputs and outputs.

The loss of a matrix W that becomes V is the energy of (W - V) x over its inputs x, which is the
trace of (W - V) H (W - V)^T, where H is the second moment of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.calibration import Moments, energy
from tinyvox.model import Dense, Matrix, Product


@dataclass(frozen=True, eq=False)
class Weighting:
    """How much errors of a matrix [out, in] count.

    `second_moment` is that of its inputs, float64 [in, in], positive definite; `importance` is the
    weight of the squared error of each output, float64 [out]. `sensitivity` is that of the matrix
    to changes of its inputs (`Moments`). Each is None where it is not known.
    """

    second_moment: Tensor | None = None
    importance: Tensor | None = None
    sensitivity: Tensor | None = None

    @classmethod
    def of(cls, moments: Moments | None) -> Weighting:
        """The weighting that the statistics of a matrix give."""
        if moments is None:
            return UNWEIGHTED
        return cls(moments.damped, moments.importance(), moments.sensitivity)

    def for_right(self, left: Tensor) -> Weighting:
        """The weighting of the right factor of a product with this left one, [out, rank]. Its
        outputs count as much as the columns of the left factor that multiply them."""
        squares = left.double().square()
        weights = squares.sum(0) if self.importance is None else self.importance @ squares
        return Weighting(self.second_moment, weights)

    def for_left(self, right: Tensor) -> Weighting:
        """The weighting of the left factor of a product with this right one, [rank, in]. Its inputs
        are the outputs of the right factor."""
        if self.second_moment is None:
            return self
        return Weighting(inner_second_moment(right, self.second_moment), self.importance)


UNWEIGHTED = Weighting()
"""All errors count alike."""


def mean_second_moment(weightings: Iterable[Weighting]) -> Tensor | None:
    """The mean of the second moments that are known, of inputs of one size: float64 [in, in]; None
    where none is known."""
    known = [each.second_moment for each in weightings if each.second_moment is not None]
    return torch.stack(known).mean(0) if len(known) > 1 else next(iter(known), None)


def shared_weighting(products: Sequence[Product], weightings: Sequence[Weighting]) -> Weighting:
    """The weighting of a right factor that products share, from the weighting of each product.
    The outputs of all products count alike, whatever their scale."""
    second_moment = mean_second_moment(weightings)
    weights = []
    for product, weighting in zip(products, weightings, strict=True):
        of_right = weighting.for_right(product.left.decode()).importance
        assert of_right is not None
        weights.append(of_right / mean_square(product, second_moment))
    return Weighting(second_moment, torch.stack(weights).sum(0))


def mean_square(matrix: Matrix, second_moment: Tensor | None) -> float:
    """The mean square of a matrix's outputs, for inputs of this second moment, or of variance 1
    where it is None; 1 where all outputs are zero, so that one may divide by it."""
    return energy(matrix.decode(), second_moment) / matrix.shape[0] or 1.0


def inner_second_moment(right: Tensor, second_moment: Tensor) -> Tensor:
    """The second moment of the outputs of a right factor [rank, in], which are the inputs of the
    left one: float64 [rank, rank], positive definite."""
    inner = right.double() @ second_moment @ right.double().T
    floor = 1e-3 * inner.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return inner + floor * torch.eye(len(inner), dtype=torch.float64)


def refit_left(left: Tensor, right: Tensor, coded_right: Tensor, second_moment: Tensor) -> Tensor:
    """The left factor, float32 [out, rank], that compensates best for the errors of a coded right
    factor, for inputs of this second moment. Both right factors are [rank, in]."""
    return least_squares_left(left.double() @ right.double(), coded_right, second_moment)


def least_squares_left(values: Tensor, right: Tensor, second_moment: Tensor) -> Tensor:
    """The left factor, float32 [out, rank], whose product with a right factor [rank, in] has the
    least loss against values [out, in], for inputs of this second moment."""
    across = values.double() @ second_moment @ right.double().T
    left: Tensor = torch.linalg.solve(inner_second_moment(right, second_moment), across, left=False)
    return left.float()


def with_right(product: Product, right: Matrix, second_moment: Tensor | None) -> Product:
    """The product with another right factor, for which the left one is refitted.

    The left factor stays as it is where the second moment of the inputs is not known, where it is
    coded already, and where some of its weights are zero, which have to stay zero.
    """
    left = product.left
    if right is product.right or second_moment is None:
        return Product(left, right)
    if isinstance(left, Dense) and left.values.all():
        left = Dense(refit_left(left.values, product.right.decode(), right.decode(), second_moment))
    return Product(left, right)


def with_factor(
    matrix: Matrix, factors: Mapping[Matrix, Matrix], second_moment: Tensor | None
) -> Matrix:
    """A product with its right factor replaced (`with_right`) by the one that `factors` has for it;
    the very same matrix where there is none."""
    if not isinstance(matrix, Product):
        return matrix
    right = factors.get(matrix.right, matrix.right)
    return matrix if right is matrix.right else with_right(matrix, right, second_moment)

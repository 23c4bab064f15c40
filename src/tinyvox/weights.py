"""A matrix as a trainable torch module, and back."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.matrix import Coded, Dense, Matrix, Product, Table, on_grid


class Weight(Protocol):
    """A matrix that is being trained."""

    def __call__(self) -> Tensor: ...

    def apply_to(self, x: Tensor) -> Tensor: ...

    def matrix(self) -> Matrix: ...


class Rounding(nn.Module):
    """A codebook that is trained together with the weights that it rounds.

    Gradients pass straight through to the weights (Bengio 2013) and reach the centroids and the row
    scales by way of the rounded values (Esser 2020, "Learned step size quantization").
    """

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.centroids = nn.Parameter(coded.codebook.centroids.clone())
        self.scale = nn.Parameter(coded.scale.clone())

    def forward(self, values: Tensor) -> Tensor:
        codes, centroids = self._codes(values)
        return centroids[codes] * self.scale[:, None] + (values - values.detach())

    def code(self, values: Tensor) -> Coded:
        """The values as codes, as `forward` sees them."""
        codes, centroids = self._codes(values)
        table = Table(centroids.detach().cpu().clone())
        return Coded(codes.to(torch.uint8).cpu(), table, self.scale.detach().cpu().clone())

    def _codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        centroids = self.centroids.sort().values
        centroids = centroids + (on_grid(centroids.detach()) - centroids.detach())
        scale = self.scale.detach()[:, None]
        inverse = torch.where(scale == 0, 0, 1 / scale)
        middles = (centroids[1:] + centroids[:-1]).detach() / 2
        return torch.bucketize(values.detach() * inverse, middles), centroids


class DenseWeight(nn.Module):
    """Values; where `rounding` is set, the forward pass sees them rounded."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.values = nn.Parameter(dense.values.clone())
        self.rounding: Rounding | None = None

    def forward(self) -> Tensor:
        if self.rounding is None:
            return self.values
        rounded: Tensor = self.rounding(self.values)
        return rounded

    def apply_to(self, x: Tensor) -> Tensor:
        return F.linear(x, self())

    def matrix(self) -> Matrix:
        values = self.values.detach()
        return Dense(values.cpu().clone()) if self.rounding is None else self.rounding.code(values)


class CodedWeight(nn.Module):
    """Fixed codes; the centroids and the row scales are trained."""

    codes: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.register_buffer("codes", coded.codes.long())
        self.centroids = nn.Parameter(coded.codebook.centroids.clone())
        self.scale = nn.Parameter(coded.scale.clone())

    def forward(self) -> Tensor:
        return self.centroids[self.codes] * self.scale[:, None]

    def apply_to(self, x: Tensor) -> Tensor:
        return F.linear(x, self())

    def matrix(self) -> Matrix:
        codebook = Table(self.centroids.detach().cpu().clone())
        return Coded(self.codes.to(torch.uint8).cpu(), codebook, self.scale.detach().cpu().clone())


class ProductWeight(nn.Module):
    def __init__(self, product: Product) -> None:
        super().__init__()
        self.left, self.right = weight_module(product.left), weight_module(product.right)

    def forward(self) -> Tensor:
        result: Tensor = self.left() @ self.right()
        return result

    def apply_to(self, x: Tensor) -> Tensor:
        return self.left.apply_to(self.right.apply_to(x))

    def matrix(self) -> Matrix:
        return Product(self.left.matrix(), self.right.matrix())


WeightModule = DenseWeight | CodedWeight | ProductWeight


def weight_module(matrix: Matrix) -> WeightModule:
    """The trainable form of a matrix."""
    if isinstance(matrix, Product):
        return ProductWeight(matrix)
    return CodedWeight(matrix) if isinstance(matrix, Coded) else DenseWeight(matrix)

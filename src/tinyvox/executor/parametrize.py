"""A matrix as a trainable torch module, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.model import (
    Binary,
    Codebook,
    Coded,
    Dense,
    Matrix,
    Product,
    Table,
    decoded,
    nearest,
    on_grid,
)


class Weight(Protocol):
    """A matrix that is being trained."""

    def __call__(self) -> Tensor: ...

    def apply_to(self, x: Tensor) -> Tensor: ...


class Levels(nn.Module):
    """The numbers of a codebook that are trained: centroids, or one a bit and row; a grid has none,
    its step is the row's scale."""

    index: Tensor | None
    grid: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.book, self.group = coded.codebook, coded.group
        # The same where the module is, which the codebook and the matrix are not.
        index = None if self.group is None else self.group.long()
        self.register_buffer("index", index, persistent=False)
        if isinstance(self.book, Table):
            self.centroids = nn.Parameter(self.book.centroids.clone())
        elif isinstance(self.book, Binary):
            self.alphas = nn.Parameter(self.book.alphas.clone())
        else:
            self.register_buffer("grid", self.book.levels(self.group), persistent=False)

    def forward(self) -> Tensor:
        """float32 [1 or out, entries]."""
        if isinstance(self.book, Table):
            return Table(self.centroids).levels(self.index)
        return Binary(self.alphas).levels(self.index) if hasattr(self, "alphas") else self.grid

    def finalized(self) -> Tensor:
        """The same, but small tables in rising order and on the kernels' grid."""
        if not isinstance(self.book, Table) or self.centroids.ndim > 1:
            return self.forward()
        centroids = self.centroids.sort().values
        return (centroids + (on_grid(centroids.detach()) - centroids.detach()))[None]

    def codebook(self, *, finalized: bool = False) -> Codebook:
        """With the numbers as they are now."""
        if isinstance(self.book, Table):
            now = (
                self.finalized() if finalized and self.book.centroids.ndim == 1 else self.centroids
            )
            return Table(now.detach().cpu().clone().view(self.book.centroids.shape))
        return Binary(self.alphas.detach().cpu().clone()) if hasattr(self, "alphas") else self.book


class Scales(nn.Module):
    """The scales of codes, which are trained: one a row, or one for each group of rows that share
    theirs."""

    index: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        index = coded.group_index if coded.shares_scale else torch.arange(len(coded.scale))
        scale = coded.scale.new_zeros(int(index.max()) + 1).index_copy(0, index, coded.scale)
        self.register_buffer("index", index, persistent=False)
        self.scale = nn.Parameter(scale)

    def forward(self) -> Tensor:
        """float32 [out]."""
        scale: Tensor = self.scale[self.index]
        return scale

    def now(self) -> Tensor:
        """The scales as they are, for a matrix."""
        return self.forward().detach().cpu().clone()


DEAD_ZONE = 0.12
"""In steps, how much further than the middle a value has to be before it is rounded away from zero,
where codes are meant to be cheap (Sullivan, "Efficient scalar quantization", 1996)."""
MARGIN = 0.3
"""How far from its code, in steps, a value is at most when rounding by price begins."""


class Rounding(nn.Module):
    """A codebook that is trained together with the weights that it rounds.

    Gradients pass straight through to the weights (Bengio 2013) and reach the codebook and the row
    scales by way of the rounded values (Esser 2020, "Learned step size quantization"). With `bits`,
    codes are meant to take so many in the file: zero attracts more values, and scales are not
    trained but set (`widen`).
    """

    def __init__(self, coded: Coded, bits: float | None = None) -> None:
        super().__init__()
        self.levels, self.scales, self.bits = Levels(coded), Scales(coded), bits
        if bits is not None:
            self.scales.scale.requires_grad_(False)

    def forward(self, values: Tensor) -> Tensor:
        codes, levels = self._codes(values)
        return decoded(codes, levels, self.scales()) + (values - values.detach())

    def code(self, values: Tensor) -> Coded:
        """The values as codes, as `forward` sees them."""
        codes, _ = self._codes(values)
        book = self.levels.codebook(finalized=True)
        return Coded(codes.to(torch.uint8).cpu(), book, self.scales.now(), self.levels.group)

    def widen(self, factor: float) -> None:
        """Multiply all steps."""
        with torch.no_grad():
            self.scales.scale.mul_(factor)

    def _codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.levels.finalized()
        scale = self.scales().detach()[:, None]
        steps = values.detach() * torch.where(scale == 0, 0, 1 / scale)
        if self.bits is not None:
            steps = steps.sign() * (steps.abs() - DEAD_ZONE).clamp(min=0)
        return nearest(steps, levels.detach()), levels


class DenseWeight(nn.Module):
    """Values; where `rounding` is set, the forward pass sees them rounded."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.values = nn.Parameter(dense.values.clone())
        self.rounding: Rounding | None = None

    def round(self, coded: Coded, bits: float | None = None) -> None:
        """Round the values from now on, with a codebook that begins as `coded` has it.

        With `bits`, the codes begin as they are there too: values come near what they stand for.
        """
        self.rounding = Rounding(coded, bits)
        if bits is not None:
            margin = MARGIN * coded.scale[:, None]
            near = coded.decode() + (self.values.detach() - coded.decode()).clamp(-margin, margin)
            with torch.no_grad():
                self.values.copy_(near)

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
    """Fixed codes; the codebook's numbers and the row scales are trained."""

    codes: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.register_buffer("codes", coded.codes.long())
        self.levels, self.scales = Levels(coded), Scales(coded)

    def forward(self) -> Tensor:
        return decoded(self.codes, self.levels(), self.scales())

    def apply_to(self, x: Tensor) -> Tensor:
        return F.linear(x, self())

    def matrix(self) -> Matrix:
        codes = self.codes.to(torch.uint8).cpu()
        return Coded(codes, self.levels.codebook(), self.scales.now(), self.levels.group)


class ProductWeight(nn.Module):
    """Two factors; the right one may be a module of other products too."""

    def __init__(self, product: Product, factors: Factors) -> None:
        super().__init__()
        self.left = weight_module(product.left, factors)
        if product.right not in factors:
            factors[product.right] = weight_module(product.right, factors)
        self.right = factors[product.right]

    def forward(self) -> Tensor:
        result: Tensor = self.left() @ self.right()
        return result

    def apply_to(self, x: Tensor) -> Tensor:
        return self.left.apply_to(self.right.apply_to(x))


WeightModule = DenseWeight | CodedWeight | ProductWeight
Factors = dict[Matrix, WeightModule]
"""Modules by the right factors that they are of; products that share a factor share its module."""


def weight_module(matrix: Matrix, factors: Factors) -> WeightModule:
    """The trainable form of a matrix; `factors` are those of the model so far."""
    if isinstance(matrix, Product):
        return ProductWeight(matrix, factors)
    return CodedWeight(matrix) if isinstance(matrix, Coded) else DenseWeight(matrix)


def leaf_modules(weight: WeightModule) -> Iterator[DenseWeight | CodedWeight]:
    """The leaves of the expression, left to right."""
    if isinstance(weight, ProductWeight):
        yield from leaf_modules(weight.left)
        yield from leaf_modules(weight.right)
    else:
        yield weight


def matrix_reader() -> Callable[[WeightModule], Matrix]:
    """What modules hold when they are first asked: of one module always the same matrix, so that
    products share what their modules share."""

    @functools.cache
    def matrix(module: WeightModule) -> Matrix:
        if isinstance(module, ProductWeight):
            return Product(matrix(module.left), matrix(module.right))
        return module.matrix()

    return matrix

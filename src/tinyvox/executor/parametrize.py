"""Matrices as trainable torch modules, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinyvox.model import (
    Binary,
    Codebook,
    Coded,
    Dense,
    Grid,
    Matrix,
    Product,
    Table,
    decoded,
    nearest,
    on_grid,
)


class Weight(Protocol):
    """A trainable matrix [out, in]."""

    def __call__(self) -> Tensor:
        """The values, float32 [out, in]."""

    def apply_to(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The matrix times vectors, plus a bias: x [..., in] to [..., out]."""

    def factors(self) -> list[Tensor]:
        """The values, or those of the two factors of a product, from left to right."""


class Levels(nn.Module):
    """The trainable numbers of a codebook: the centroids of a table, or the alphas of binary codes.

    A grid has none: its step is the row scale.
    """

    index: Tensor | None
    grid: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.book, self.row_group = coded.codebook, coded.row_group
        # Buffers move to another device with the module; the codebook and the matrix do not.
        index = None if self.row_group is None else self.row_group.long()
        self.register_buffer("index", index, persistent=False)
        if isinstance(self.book, Table):
            self.centroids = nn.Parameter(self.book.centroids.clone())
        elif isinstance(self.book, Binary):
            self.alphas = nn.Parameter(self.book.alphas.clone())
        else:
            self.register_buffer("grid", self.book.levels(self.row_group), persistent=False)

    def forward(self) -> Tensor:
        """The value of each code before the row scale, float32 [1 or out, entries]."""
        if isinstance(self.book, Table):
            return Table(self.centroids).levels(self.index)
        return Binary(self.alphas).levels(self.index) if hasattr(self, "alphas") else self.grid

    def finalized(self) -> Tensor:
        """The same values; small tables sorted, and rounded to the multiples that kernels hold."""
        if not isinstance(self.book, Table) or self.centroids.ndim > 1:
            return self.forward()
        centroids = self.centroids.sort().values
        return (centroids + (on_grid(centroids.detach()) - centroids.detach()))[None]

    def codebook(self, *, finalized: bool = False) -> Codebook:
        """The codebook with the present numbers; `finalized`: those of `finalized()`."""
        if isinstance(self.book, Table):
            one_table = self.book.centroids.ndim == 1
            now = self.finalized() if finalized and one_table else self.centroids
            return Table(now.detach().cpu().clone().view(self.book.centroids.shape))
        return Binary(self.alphas.detach().cpu().clone()) if hasattr(self, "alphas") else self.book


class Scales(nn.Module):
    """The trainable scales of codes, one for each row or for each row group that shares one."""

    index: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        index = coded.row_group_index if coded.shares_scale else torch.arange(len(coded.scale))
        scale = coded.scale.new_zeros(int(index.max()) + 1).index_copy(0, index, coded.scale)
        self.register_buffer("index", index, persistent=False)
        self.scale = nn.Parameter(scale)

    def forward(self) -> Tensor:
        """The scale of each row, float32 [out]."""
        scale: Tensor = self.scale[self.index]
        return scale

    def now(self) -> Tensor:
        """The present scales, as a `Coded` matrix takes them: float32 [out], on the CPU."""
        return self.forward().detach().cpu().clone()


DEAD_ZONE = 0.12
"""Entropy-constrained rounding rounds away from zero where a value is so far, in steps, beyond the
midpoint of two levels (Sullivan, "Efficient scalar quantization", 1996)."""
MARGIN = 0.3
"""How far a value may be from the level of its code, in steps, when entropy-constrained rounding
begins."""


class Rounding(nn.Module):
    """A codebook that is trained together with the values that it rounds.

    The gradient passes unchanged to the values (straight-through estimator, Bengio 2013) and
    reaches the codebook and the row scales through the rounded values (Esser 2020, "Learned step
    size quantization"). With `bits`, the target in bits for each code in the file, rounding is
    entropy-constrained: zero attracts more values, and scales are not trained but set by `widen`.
    """

    def __init__(self, coded: Coded, bits: float | None = None) -> None:
        super().__init__()
        self.levels, self.scales, self.bits = Levels(coded), Scales(coded), bits
        self.fine_input = coded.fine_input
        if bits is not None:
            self.scales.scale.requires_grad_(False)

    def forward(self, values: Tensor) -> Tensor:
        """The rounded values, float32 [out, in]."""
        if (grid := self._fixed_grid()) is not None:
            values_now = rounded_to_grid(values, grid, self.scales())
            rounded: Tensor = _Straight.apply(values, values_now)  # type: ignore[no-untyped-call]
            return rounded
        codes, levels = self._codes(values)
        return decoded(codes, levels, self.scales()) + (values - values.detach())

    def _fixed_grid(self) -> Grid | None:
        """The levels where they are a grid with one zero, and nothing of it is trained."""
        book = self.levels.book
        fixed = self.bits is not None and isinstance(book, Grid) and book.zero.numel() == 1
        return book if fixed and isinstance(book, Grid) else None

    def code(self, values: Tensor) -> Coded:
        """The codes that `forward` rounds these values to."""
        codes, _ = self._codes(values)
        book = self.levels.codebook(finalized=True)
        return Coded(
            codes.to(torch.uint8).cpu(),
            book,
            self.scales.now(),
            self.levels.row_group,
            self.fine_input,
        )

    def widen(self, factor: float) -> None:
        """Multiply all scales by this factor."""
        with torch.no_grad():
            self.scales.scale.mul_(factor)

    def _codes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        levels = self.levels.finalized()
        scale = self.scales().detach()[:, None]
        steps = values.detach() * torch.where(scale == 0, 0, 1 / scale)
        if self.bits is not None:
            steps = steps.sign() * (steps.abs() - DEAD_ZONE).clamp(min=0)
        return nearest(steps, levels.detach()), levels


class _Straight(torch.autograd.Function):
    """Other values, whose gradient goes to `values` as it is."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def rounded_to_grid(values: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Values [out, in] at the levels of their entropy-constrained codes, float32.

    What `nearest` finds among the levels of a grid with one zero, in fewer passes; halfway between
    two levels it takes the lower one.
    """
    zero, column = int(grid.zero[0]), scale[:, None]
    rows = max(1, BLOCK // max(1, values.shape[1]))
    result = torch.empty_like(values)
    for first in range(0, len(values), rows):
        own = column[first : first + rows]
        steps = values.detach()[first : first + rows] * torch.where(own == 0, 0, 1 / own)
        steps = steps.abs().sub_(DEAD_ZONE).clamp_(min=0).copysign_(steps)
        whole = steps.round()
        whole.sub_(((whole - steps) == 0.5).float()).clamp_(-zero, grid.entries - 1 - zero)
        torch.mul(whole, own, out=result[first : first + rows])
    return result


BLOCK = 1 << 16
"""Values that are rounded at a time: they stay in the cache of the processor meanwhile."""


class DenseWeight(nn.Module):
    """A trainable dense matrix; where `rounding` is set, the forward pass rounds its values."""

    def __init__(self, dense: Dense) -> None:
        super().__init__()
        self.values = nn.Parameter(dense.values.clone())
        self.rounding: Rounding | None = None

    def round(self, coded: Coded, bits: float | None = None) -> None:
        """Round the values from now on; the codebook starts as that of `coded`.

        With `bits`, rounding is entropy-constrained, and the codes start as those of `coded` too:
        the values are moved close to the levels of these codes.
        """
        self.rounding = Rounding(coded, bits)
        if bits is not None:
            margin = MARGIN * coded.scale[:, None]
            near = coded.decode() + (self.values.detach() - coded.decode()).clamp(-margin, margin)
            with torch.no_grad():
                self.values.copy_(near)

    def forward(self) -> Tensor:
        """The values, rounded where `rounding` is set, float32 [out, in]."""
        if self.rounding is None:
            return self.values
        rounded: Tensor = self.rounding(self.values)
        return rounded

    def apply_to(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The matrix times vectors, plus a bias: x [..., in] to [..., out]."""
        return F.linear(x, self(), bias)

    def factors(self) -> list[Tensor]:
        """The values alone."""
        return [self()]

    def matrix(self) -> Matrix:
        """The matrix with the present values, coded where they are rounded."""
        values = self.values.detach()
        return Dense(values.cpu().clone()) if self.rounding is None else self.rounding.code(values)


class CodedWeight(nn.Module):
    """A coded matrix with fixed codes; the numbers of its codebook and its scales are trained."""

    codes: Tensor

    def __init__(self, coded: Coded) -> None:
        super().__init__()
        self.register_buffer("codes", coded.codes.long())
        self.levels, self.scales = Levels(coded), Scales(coded)
        self.fine_input = coded.fine_input

    def forward(self) -> Tensor:
        """The values that the codes stand for, float32 [out, in]."""
        return decoded(self.codes, self.levels(), self.scales())

    def apply_to(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The matrix times vectors, plus a bias: x [..., in] to [..., out]."""
        return F.linear(x, self(), bias)

    def factors(self) -> list[Tensor]:
        """The values alone."""
        return [self()]

    def matrix(self) -> Matrix:
        """The matrix with the present codebook and scales."""
        codes = self.codes.to(torch.uint8).cpu()
        book, group = self.levels.codebook(), self.levels.row_group
        return Coded(codes, book, self.scales.now(), group, self.fine_input)


class ProductWeight(nn.Module):
    """A trainable product; other products may share the module of the right factor."""

    def __init__(self, product: Product, factors: Factors) -> None:
        super().__init__()
        self.left = weight_module(product.left, factors)
        self.right = weight_module(product.right, factors)

    def forward(self) -> Tensor:
        """The product of the factors, float32 [out, in]."""
        result: Tensor = self.left() @ self.right()
        return result

    def apply_to(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The factors times vectors, in turn, plus a bias: x [..., in] to [..., out]."""
        return self.left.apply_to(self.right.apply_to(x), bias)

    def factors(self) -> list[Tensor]:
        """The values of the two factors."""
        return [self.left(), self.right()]


WeightModule = DenseWeight | CodedWeight | ProductWeight
"""What a matrix becomes."""
Factors = dict[Matrix, WeightModule]
"""The module of each matrix; layers and products that share a matrix share its module."""


def weight_module(matrix: Matrix, factors: Factors) -> WeightModule:
    """The trainable form of a matrix: the same module for the very same matrix. `factors` are the
    modules of the model so far; it adds its own."""
    if matrix not in factors:
        if isinstance(matrix, Product):
            factors[matrix] = ProductWeight(matrix, factors)
        else:
            made = CodedWeight(matrix) if isinstance(matrix, Coded) else DenseWeight(matrix)
            factors[matrix] = made
    return factors[matrix]


def leaf_modules(weight: WeightModule) -> Iterator[DenseWeight | CodedWeight]:
    """The modules of the leaves of the expression, from left to right."""
    if isinstance(weight, ProductWeight):
        yield from leaf_modules(weight.left)
        yield from leaf_modules(weight.right)
    else:
        yield weight


def matrix_reader() -> Callable[[WeightModule], Matrix]:
    """A function from a module to its matrix, with the values at the first call.

    It gives the same matrix for the same module, so products share what their modules share.
    """

    @functools.cache
    def matrix(module: WeightModule) -> Matrix:
        if isinstance(module, ProductWeight):
            return Product(matrix(module.left), matrix(module.right))
        return module.matrix()

    return matrix

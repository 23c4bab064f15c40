"""A weight matrix is an expression: dense values, codes into a codebook, or a product of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.errors import ModelError

MAX_CODE_BITS = 8


@dataclass(frozen=True, eq=False)
class Dense:
    """Plain values, float32 [out, in]."""

    values: Tensor

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ModelError(f"a matrix has 2 dimensions, found shape {tuple(self.values.shape)}")
        if self.values.dtype != torch.float32:
            raise ModelError(f"a dense matrix is float32, found {self.values.dtype}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    def decode(self) -> Tensor:
        return self.values

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Dense:
        return Dense(_take(self.values, rows, columns))


@dataclass(frozen=True, eq=False)
class Table:
    """A codebook of centroids, float32 [entries] in rising order, 2 to 256 of them."""

    centroids: Tensor

    def __post_init__(self) -> None:
        entries = self.centroids.numel()
        if self.centroids.ndim != 1 or not 2 <= entries <= 1 << MAX_CODE_BITS:
            raise ModelError(
                f"a table holds 2 to 256 centroids in one row, found {tuple(self.centroids.shape)}"
            )

    @property
    def bits(self) -> int:
        return (self.centroids.numel() - 1).bit_length()


def on_grid(centroids: Tensor) -> Tensor:
    """Centroids of a small table as the kernels hold them: whole multiples of a step.

    Up to 8 centroids become integers of at most 31 times the step in magnitude, up to 16 of at most
    63 (`native/src/kernels/kernels.h`); the step is the one that moves them least. Larger tables
    stay as they are: the kernels' 8 bits are fine enough for what such tables are for.
    """
    entries, largest = centroids.numel(), float(centroids.abs().max())
    if entries > 16 or largest == 0:
        return centroids
    most = 31 if entries <= 8 else 63
    tops = torch.arange(most, most * 2 // 3 - 1, -1, dtype=torch.float64)
    steps = (largest / tops)[:, None]
    grids = (centroids.double() / steps).round() * steps
    best = (grids - centroids).square().sum(1).argmin()
    return grids[best].float()


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes uint8 [out, in] into a codebook, times one scale a row, float32 [out]."""

    codes: Tensor
    codebook: Table
    scale: Tensor

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != torch.uint8:
            raise ModelError(
                f"codes are uint8 [out, in], found {self.codes.dtype} {tuple(self.codes.shape)}"
            )
        if self.scale.shape != self.codes.shape[:1]:
            raise ModelError(
                f"{self.codes.shape[0]} rows of codes need as many scales, "
                f"found {tuple(self.scale.shape)}"
            )
        if self.codes.numel() and int(self.codes.max()) >= self.codebook.centroids.numel():
            raise ModelError(
                f"code {int(self.codes.max())} lies outside a table of "
                f"{self.codebook.centroids.numel()} centroids"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def bits(self) -> int:
        return self.codebook.bits

    def decode(self) -> Tensor:
        return self.codebook.centroids[self.codes.long()] * self.scale[:, None]

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Coded:
        scale = self.scale if rows is None else self.scale[rows]
        return Coded(_take(self.codes, rows, columns), self.codebook, scale)


@dataclass(frozen=True, eq=False)
class Product:
    """`left @ right`: [out, rank] times [rank, in]; each side is again a matrix."""

    left: Matrix
    right: Matrix

    def __post_init__(self) -> None:
        if self.left.shape[1] != self.right.shape[0]:
            raise ModelError(
                f"factors do not fit: {list(self.left.shape)} times {list(self.right.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def decode(self) -> Tensor:
        return self.left.decode() @ self.right.decode()

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Product:
        return Product(self.left.take(rows=rows), self.right.take(columns=columns))


Matrix = Dense | Coded | Product


def leaves(matrix: Matrix) -> Iterator[Dense | Coded]:
    """The leaves of the expression, left to right."""
    if isinstance(matrix, Product):
        yield from leaves(matrix.left)
        yield from leaves(matrix.right)
    else:
        yield matrix


def parameters(matrix: Matrix) -> int:
    """How many weights the leaves hold."""
    return sum(leaf.shape[0] * leaf.shape[1] for leaf in leaves(matrix))


def _take(values: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    taken = values if rows is None else values[rows]
    return taken if columns is None else taken[:, columns].contiguous()

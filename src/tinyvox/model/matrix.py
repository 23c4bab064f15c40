"""The weight matrix, an expression: dense values, codes into a codebook, or a product of two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model.codebooks import Codebook, Grid

MAX_ROW_GROUPS = 256
"""Most row groups of a coded matrix."""


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
        """(out, in)."""
        return self.values.shape[0], self.values.shape[1]

    def is_finite(self) -> bool:
        """Whether all values are finite."""
        return bool(self.values.isfinite().all())

    def decode(self) -> Tensor:
        """The values, float32 [out, in]."""
        return self.values

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Dense:
        """The matrix of these rows and columns (int64 indices); None stands for all."""
        return Dense(_take(self.values, rows, columns))


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes uint8 [out, in] into a codebook, times one scale for each row, float32 [out].

    `row_group`, uint8 [out], is the group of each row; without it all rows form one group. Rows of
    a group may share a table and a scale, and the file codes them by one model of probabilities.
    Row groups are numbered from 0, without gaps.

    The native runtime rounds the input of the matrix to 8 bits, each frame by its largest value.
    With `fine_input` it is 16 bits, at twice the products: for inputs of which some values are far
    smaller than others, and matter.
    """

    codes: Tensor
    codebook: Codebook
    scale: Tensor
    row_group: Tensor | None = None
    fine_input: bool = False

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != torch.uint8:
            raise ModelError(
                f"codes are uint8 [out, in], found {self.codes.dtype} {tuple(self.codes.shape)}"
            )
        rows = self.codes.shape[:1]
        if self.scale.shape != rows:
            raise ModelError(
                f"{rows[0]} rows of codes need as many scales, found {tuple(self.scale.shape)}"
            )
        if self.codes.numel() and int(self.codes.max()) >= self.codebook.entries:
            raise ModelError(
                f"code {int(self.codes.max())} lies outside a codebook of "
                f"{self.codebook.entries} entries"
            )
        self._check_row_groups()

    def _check_row_groups(self) -> None:
        rows, index = self.codes.shape[0], self.row_group
        if index is not None and index.shape != (rows,):
            raise ModelError(
                f"{rows} rows of codes lie in as many groups, found {tuple(index.shape)}"
            )
        if index is not None and index.unique().numel() != self.row_groups:  # type: ignore[no-untyped-call]
            raise ModelError(
                f"some of {self.row_groups} groups have no rows; count them without gaps"
            )
        self.codebook.check(rows, self.row_groups)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def row_groups(self) -> int:
        """The number of row groups."""
        index = self.row_group
        return 1 if index is None or not index.numel() else int(index.max()) + 1

    @property
    def row_group_index(self) -> Tensor:
        """The group of each row, int64 [out]; 0 where there is one group."""
        rows, index = self.codes.shape[0], self.row_group
        return torch.zeros(rows, dtype=torch.long) if index is None else index.long()

    @property
    def bits(self) -> int:
        """Bits of a code before entropy coding."""
        return (self.codebook.entries - 1).bit_length()

    @property
    def shares_scale(self) -> bool:
        """Whether the rows of each row group have the same scale."""
        scale, index = self.scale, self.row_group_index
        low, high = (
            scale.new_zeros(self.row_groups).scatter_reduce(
                0, index, scale, how, include_self=False
            )
            for how in ("amin", "amax")
        )
        return torch.equal(low, high)

    def levels(self) -> Tensor:
        """The value of each code before the row scale, float32 [1 or out, entries]."""
        return self.codebook.levels(self.row_group)

    def decode(self) -> Tensor:
        """The values that the codes stand for, float32 [out, in]."""
        return decoded(self.codes, self.levels(), self.scale)

    def is_finite(self) -> bool:
        """Whether all values are finite; without decoding them if no level times a scale is not."""
        bound = self.codebook.bound() * self.scale.abs().max()
        return bool(bound.isfinite()) or bool(self.decode().isfinite().all())

    def nearest(self, values: Tensor) -> Tensor:
        """The codes whose levels are closest to values [out, n], int64 [out, n].

        Scales must be positive.
        """
        return self.picker()(values)

    def picker(self) -> Callable[[Tensor], Tensor]:
        """`nearest` as a function; everything that does not depend on the values is precomputed."""
        inverse = torch.where(self.scale > 0, 1 / self.scale, 0)[:, None]
        pick = _nearest_of(self.levels())
        return lambda values: pick(values * inverse)

    def zero_codes(self) -> Tensor | None:
        """The code of exactly zero in each row, int64 [out]; None where some row has none."""
        is_zero = self.levels() == 0
        if not bool(is_zero.any(1).all()):
            return None
        return is_zero.int().argmax(1).expand(self.codes.shape[0])

    def with_codes(self, codes: Tensor, *, without_trellis: bool = False) -> Coded:
        """Other codes for the same levels; `without_trellis`: they need not follow a trellis."""
        book = self.codebook
        if without_trellis and isinstance(book, Grid):
            book = replace(book, trellis=False)
        return replace(self, codes=codes.to(torch.uint8), codebook=book)

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Coded:
        """The matrix of these rows and columns (int64 indices); None stands for all."""
        if rows is None:
            return replace(self, codes=_take(self.codes, None, columns))
        row_group = kept = None
        if self.row_group is not None:
            kept, row_group = self.row_group_index[rows].unique(return_inverse=True)  # type: ignore[no-untyped-call]
            row_group = row_group.to(torch.uint8)
        book = self.codebook.take_rows(rows, kept)
        codes = _take(self.codes, rows, columns)
        return Coded(codes, book, self.scale[rows], row_group, self.fine_input)


def decoded(codes: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """The values of codes [out, in], float32; `levels` are [1 or out, entries], `scale` [out]."""
    if levels.shape[0] == 1:
        return levels[0][codes.long()] * scale[:, None]
    return levels.gather(1, codes.long()) * scale[:, None]


def nearest(x: Tensor, levels: Tensor) -> Tensor:
    """The index of the level closest to each value, int64 [out, n].

    `x` is [out, n], `levels` [1 or out, entries].
    """
    return _nearest_of(levels)(x)


def _nearest_of(levels: Tensor) -> Callable[[Tensor], Tensor]:
    ordered, order = levels.sort(dim=1)
    middles = (ordered[:, 1:] + ordered[:, :-1]) / 2
    if levels.shape[0] == 1:
        return lambda x: order[0][torch.bucketize(x.contiguous(), middles[0])]
    return lambda x: order.gather(1, torch.searchsorted(middles, x.contiguous()))


@dataclass(frozen=True, eq=False)
class Product:
    """`left @ right`: [out, rank] times [rank, in]; each factor is again a matrix.

    Products whose `right` is the same object share it: it is trained, coded and stored once.
    """

    left: Matrix
    right: Matrix

    def __post_init__(self) -> None:
        if self.left.shape[1] != self.right.shape[0]:
            raise ModelError(
                f"factors do not fit: {list(self.left.shape)} times {list(self.right.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        """The number of columns of `left`, and of rows of `right`."""
        return self.left.shape[1]

    def decode(self) -> Tensor:
        """The product of the decoded factors, float32 [out, in]."""
        return self.left.decode() @ self.right.decode()

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Product:
        """The matrix of these rows and columns (int64 indices); None stands for all."""
        left = self.left if rows is None else self.left.take(rows=rows)
        right = self.right if columns is None else self.right.take(columns=columns)
        return Product(left, right)


Matrix = Dense | Coded | Product
"""What every weight matrix of a layer is."""


def leaves(matrix: Matrix) -> Iterator[Dense | Coded]:
    """The dense and coded matrices of the expression, from left to right."""
    if isinstance(matrix, Product):
        yield from leaves(matrix.left)
        yield from leaves(matrix.right)
    else:
        yield matrix


def has_fine_input(matrix: Matrix) -> bool:
    """Whether the native runtime rounds the input of some leaf to 16 bits rather than 8."""
    return any(isinstance(leaf, Coded) and leaf.fine_input for leaf in leaves(matrix))


def leaf_map(change: Callable[[Dense | Coded], Matrix]) -> Callable[[Matrix], Matrix]:
    """A function that replaces every leaf of an expression by `change(leaf)`.

    It replaces equal objects by equal objects, so matrices that share a factor share the new one. A
    product whose leaves do not change stays the same object.
    """

    @functools.cache
    def changed(matrix: Matrix) -> Matrix:
        if isinstance(matrix, Product):
            left, right = changed(matrix.left), changed(matrix.right)
            same = left is matrix.left and right is matrix.right
            return matrix if same else Product(left, right)
        return change(matrix)

    return changed


def _take(values: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    taken = values if rows is None else values[rows]
    return taken if columns is None else taken[:, columns].contiguous()

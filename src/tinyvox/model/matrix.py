"""A weight matrix is an expression: dense values, codes into a codebook, or a product of two."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tinyvox.errors import ModelError

MAX_CODE_BITS = 8
MAX_ENTRIES = 1 << MAX_CODE_BITS
MAX_GROUPS = 256


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
    """A codebook of centroids in rising order, 2 to 256 of them.

    float32 [entries], or [groups, entries]: one table for each group of rows.
    """

    centroids: Tensor

    def __post_init__(self) -> None:
        if not 1 <= self.centroids.ndim <= 2 or not 2 <= self.entries <= MAX_ENTRIES:
            raise ModelError(
                f"a table holds 2 to 256 centroids in one row, found {tuple(self.centroids.shape)}"
            )

    @property
    def entries(self) -> int:
        return self.centroids.shape[-1]

    def check(self, rows: int, groups: int) -> None:
        fits = self.centroids.ndim == 1 or len(self.centroids) == groups
        _expect_rows("centroids", self.centroids, fits, rows)

    def levels(self, group: Tensor | None) -> Tensor:
        if self.centroids.ndim == 1:
            return self.centroids[None]
        assert group is not None
        return self.centroids[group.long()]

    def take_rows(self, rows: Tensor, groups: Tensor | None) -> Table:
        return self if self.centroids.ndim == 1 else Table(self.centroids[groups])


@dataclass(frozen=True, eq=False)
class Grid:
    """A codebook of evenly spaced levels: code c stands for c - zero, the row's scale is the step.

    `zero` is int64 [1] or [out], within the codes. With `trellis` (and one zero) the codes of each
    column, from the first row to the last, follow the trellis of native/src/trellis.h: every code
    comes from a part of the grid that the codes above it tell, and takes a bit less in a file.
    """

    entries: int
    zero: Tensor
    trellis: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.entries <= MAX_ENTRIES:
            raise ModelError(f"a grid has 2 to 256 levels, found {self.entries}")
        if self.zero.ndim != 1 or not bool(((self.zero >= 0) & (self.zero < self.entries)).all()):
            raise ModelError(f"the zeros of a grid lie within its {self.entries} codes")
        if self.trellis and self.zero.numel() != 1:
            raise ModelError("a trellis has one zero for all rows")

    def check(self, rows: int, groups: int) -> None:
        _expect_rows("zero", self.zero, len(self.zero) in (1, rows), rows)

    def levels(self, group: Tensor | None) -> Tensor:
        return (torch.arange(self.entries) - self.zero[:, None]).float()

    def take_rows(self, rows: Tensor, groups: Tensor | None) -> Grid:
        """Codes without those of some rows follow no trellis any more."""
        zero = self.zero if self.zero.numel() == 1 else self.zero[rows]
        return Grid(self.entries, zero)


@dataclass(frozen=True, eq=False)
class Binary:
    """Multi-bit binary codes: bit i of a code is the sign of alphas[row, i], float32 [out, bits].

    Source: Xu et al., "Alternating multi-bit quantization for recurrent neural networks", 2018,
    section 2.
    """

    alphas: Tensor

    def __post_init__(self) -> None:
        if self.alphas.ndim != 2 or not 1 <= self.alphas.shape[1] <= MAX_CODE_BITS:
            raise ModelError(
                f"binary codes have 1 to 8 alphas a row, found {tuple(self.alphas.shape)}"
            )

    @property
    def entries(self) -> int:
        return 1 << self.alphas.shape[1]

    def check(self, rows: int, groups: int) -> None:
        _expect_rows("alphas", self.alphas, len(self.alphas) == rows, rows)

    def levels(self, group: Tensor | None) -> Tensor:
        return self.alphas @ signs(self.alphas.shape[1]).T.to(self.alphas.device)

    def take_rows(self, rows: Tensor, groups: Tensor | None) -> Binary:
        return Binary(self.alphas[rows])


Codebook = Table | Grid | Binary
"""Each says whether it fits so many rows in so many groups (`check` raises ModelError), what codes
stand for (`levels`, [1 or out, entries]), and what is left of it for some rows, and the groups,
rising, that these rows are of (`take_rows`)."""


def _expect_rows(what: str, values: Tensor, fits: bool, rows: int) -> None:
    if not fits:
        raise ModelError(f"{what} {tuple(values.shape)} do not fit {rows} rows of codes")


def signs(bits: int) -> Tensor:
    """What each code says of each bit's sign, -1 or 1, float32 [2**bits, bits]."""
    codes = torch.arange(1 << bits)[:, None]
    return 2.0 * (codes >> torch.arange(bits) & 1) - 1


def on_grid(centroids: Tensor) -> Tensor:
    """Centroids of a small table as the kernels hold them: whole multiples of a step.

    Up to 8 centroids become integers of at most 31 times the step in magnitude, up to 16 of at most
    63 (`native/src/kernels/kernels.h`); the step is the one that moves them least. Larger tables,
    and one for each group of rows, stay as they are: the kernels hold those as 8 bits.
    """
    entries, largest = centroids.shape[-1], float(centroids.abs().max())
    if entries > 16 or centroids.ndim > 1 or largest == 0:
        return centroids
    most = 31 if entries <= 8 else 63
    tops = torch.arange(most, most * 2 // 3 - 1, -1, dtype=torch.float64, device=centroids.device)
    steps = (largest / tops)[:, None]
    grids = (centroids.double() / steps).round() * steps
    best = (grids - centroids).square().sum(1).argmin()
    return grids[best].float()


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes uint8 [out, in] into a codebook, times one scale a row, float32 [out].

    `group`, uint8 [out], says which rows belong together, if not all: they may share a table and a
    scale, and the file codes them by one model. Groups are counted from 0, without gaps.
    """

    codes: Tensor
    codebook: Codebook
    scale: Tensor
    group: Tensor | None = None

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
        self._check_groups()

    def _check_groups(self) -> None:
        rows = self.codes.shape[0]
        if self.group is not None and self.group.shape != (rows,):
            raise ModelError(
                f"{rows} rows of codes lie in as many groups, found {tuple(self.group.shape)}"
            )
        if self.group is not None and self.group.unique().numel() != self.groups:  # type: ignore[no-untyped-call]
            raise ModelError(f"some of {self.groups} groups have no rows; count them without gaps")
        self.codebook.check(rows, self.groups)

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def groups(self) -> int:
        """How many groups of rows there are."""
        return 1 if self.group is None or not self.group.numel() else int(self.group.max()) + 1

    @property
    def group_index(self) -> Tensor:
        """The group of each row, int64 [out]; 0 where there is one."""
        rows = self.codes.shape[0]
        return torch.zeros(rows, dtype=torch.long) if self.group is None else self.group.long()

    @property
    def bits(self) -> int:
        """Bits of a code before entropy coding."""
        return (self.codebook.entries - 1).bit_length()

    @property
    def shares_scale(self) -> bool:
        """Whether the rows of each group have one scale (and all rows, where there is no group)."""
        scale, index = self.scale, self.group_index
        low, high = (
            scale.new_zeros(self.groups).scatter_reduce(0, index, scale, how, include_self=False)
            for how in ("amin", "amax")
        )
        return torch.equal(low, high)

    def levels(self) -> Tensor:
        """What codes stand for before the scale, float32 [1 or out, entries]."""
        return self.codebook.levels(self.group)

    def decode(self) -> Tensor:
        return decoded(self.codes, self.levels(), self.scale)

    def nearest(self, values: Tensor) -> Tensor:
        """Codes of the levels closest to values [out, n], int64 [out, n]; scales are positive."""
        return self.picker()(values)

    def picker(self) -> Callable[[Tensor], Tensor]:
        """`nearest`, with what does not depend on the values worked out once."""
        inverse = torch.where(self.scale > 0, 1 / self.scale, 0)[:, None]
        pick = _nearest_of(self.levels())
        return lambda values: pick(values * inverse)

    def zero_codes(self) -> Tensor | None:
        """Each row's code of exactly zero, int64 [out]; None where a row has none."""
        is_zero = self.levels() == 0
        if not bool(is_zero.any(1).all()):
            return None
        return is_zero.int().argmax(1).expand(self.codes.shape[0])

    def with_codes(self, codes: Tensor, *, without_trellis: bool = False) -> Coded:
        """Other codes for the same levels; `without_trellis` where they need not follow a trellis."""
        book = self.codebook
        if without_trellis and isinstance(book, Grid):
            book = replace(book, trellis=False)
        return replace(self, codes=codes.to(torch.uint8), codebook=book)

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Coded:
        if rows is None:
            return replace(self, codes=_take(self.codes, None, columns))
        group = kept = None
        if self.group is not None:
            kept, group = self.group_index[rows].unique(return_inverse=True)  # type: ignore[no-untyped-call]
            group = group.to(torch.uint8)
        book = self.codebook.take_rows(rows, kept)
        return Coded(_take(self.codes, rows, columns), book, self.scale[rows], group)


def decoded(codes: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """Codes [out, in] as values: `levels` [1 or out, entries], `scale` [out]."""
    if levels.shape[0] == 1:
        return levels[0][codes.long()] * scale[:, None]
    return levels.gather(1, codes.long()) * scale[:, None]


def nearest(x: Tensor, levels: Tensor) -> Tensor:
    """Index of the level closest to each value, int64; x [out, n], levels [1 or out, entries]."""
    return _nearest_of(levels)(x)


def _nearest_of(levels: Tensor) -> Callable[[Tensor], Tensor]:
    ordered, order = levels.sort(dim=1)
    middles = (ordered[:, 1:] + ordered[:, :-1]) / 2
    if levels.shape[0] == 1:
        return lambda x: order[0][torch.bucketize(x.contiguous(), middles[0])]
    return lambda x: order.gather(1, torch.searchsorted(middles, x.contiguous()))


@dataclass(frozen=True, eq=False)
class Product:
    """`left @ right`: [out, rank] times [rank, in]; each side is again a matrix.

    Products whose `right` is the very same object share it: it is trained, coded and stored once.
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
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def decode(self) -> Tensor:
        return self.left.decode() @ self.right.decode()

    def take(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Product:
        left = self.left if rows is None else self.left.take(rows=rows)
        right = self.right if columns is None else self.right.take(columns=columns)
        return Product(left, right)


Matrix = Dense | Coded | Product


def leaves(matrix: Matrix) -> Iterator[Dense | Coded]:
    """The leaves of the expression, left to right."""
    if isinstance(matrix, Product):
        yield from leaves(matrix.left)
        yield from leaves(matrix.right)
    else:
        yield matrix


def leaf_map(change: Callable[[Dense | Coded], Matrix]) -> Callable[[Matrix], Matrix]:
    """Makes expressions anew, leaf by leaf; what they share, the new ones share."""

    @functools.cache
    def changed(matrix: Matrix) -> Matrix:
        if isinstance(matrix, Product):
            return Product(changed(matrix.left), changed(matrix.right))
        return change(matrix)

    return changed


def _take(values: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    taken = values if rows is None else values[rows]
    return taken if columns is None else taken[:, columns].contiguous()

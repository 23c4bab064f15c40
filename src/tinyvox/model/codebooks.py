"""Codebooks: the values that the codes of a matrix stand for.

A codebook has a method that checks whether it fits (`check`), one for the values that codes stand
for (`levels`), and one for the codebook of some of the rows (`take_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tinyvox.errors import ModelError

MAX_CODE_BITS = 8
"""Most bits of a code before entropy coding."""
MAX_ENTRIES = 1 << MAX_CODE_BITS
"""Most entries of a codebook."""


@dataclass(frozen=True, eq=False)
class Table:
    """A codebook of 2 to 256 centroids in rising order.

    float32 [entries], or [row groups, entries]: one table for each row group.
    """

    centroids: Tensor

    def __post_init__(self) -> None:
        if not 1 <= self.centroids.ndim <= 2 or not 2 <= self.entries <= MAX_ENTRIES:
            raise ModelError(
                f"a table holds 2 to 256 centroids in one row, found {tuple(self.centroids.shape)}"
            )

    @property
    def entries(self) -> int:
        """The number of levels."""
        return self.centroids.shape[-1]

    def check(self, rows: int, row_groups: int) -> None:
        """Raise ModelError where there is not one table, nor one for each row group."""
        fits = self.centroids.ndim == 1 or len(self.centroids) == row_groups
        _expect_rows("centroids", self.centroids, fits, rows)

    def bound(self) -> Tensor:
        """No level has a larger magnitude, float32 []."""
        return self.centroids.abs().max()

    def levels(self, row_group: Tensor | None) -> Tensor:
        """The value of each code before the row scale, float32 [1 or out, entries]."""
        if self.centroids.ndim == 1:
            return self.centroids[None]
        assert row_group is not None
        return self.centroids[row_group.long()]

    def take_rows(self, rows: Tensor, row_groups: Tensor | None) -> Table:
        """The codebook of these rows; `row_groups` are the groups that they are of, rising."""
        return self if self.centroids.ndim == 1 else Table(self.centroids[row_groups])


@dataclass(frozen=True, eq=False)
class Grid:
    """A codebook of evenly spaced levels: code c stands for c - zero; the row scale is the step.

    `zero` is int64 [1] or [out], within the codes. With `trellis` (and one zero) the codes of each
    column, from the first row to the last, follow the trellis of native/src/trellis.h: the codes
    above a code determine from which part of the grid it comes, so it takes fewer bits in a file.
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

    def check(self, rows: int, row_groups: int) -> None:
        """Raise ModelError where there is not one zero, nor one for each row."""
        _expect_rows("zero", self.zero, len(self.zero) in (1, rows), rows)

    def bound(self) -> Tensor:
        """No level has a larger magnitude, float32 []."""
        return torch.tensor(float(self.entries))

    def levels(self, row_group: Tensor | None) -> Tensor:
        """The value of each code before the row scale, float32 [1 or out, entries]."""
        return (torch.arange(self.entries) - self.zero[:, None]).float()

    def take_rows(self, rows: Tensor, row_groups: Tensor | None) -> Grid:
        """The grid of these rows, without a trellis: what is left of a column follows none."""
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
        """The number of levels."""
        return 1 << self.alphas.shape[1]

    def check(self, rows: int, row_groups: int) -> None:
        """Raise ModelError where there are not alphas for each row."""
        _expect_rows("alphas", self.alphas, len(self.alphas) == rows, rows)

    def bound(self) -> Tensor:
        """No level has a larger magnitude, float32 []."""
        return self.alphas.abs().sum(1).max()

    def levels(self, row_group: Tensor | None) -> Tensor:
        """The value of each code before the row scale, float32 [out, entries]."""
        return self.alphas @ signs(self.alphas.shape[1]).T.to(self.alphas.device)

    def take_rows(self, rows: Tensor, row_groups: Tensor | None) -> Binary:
        """The codebook of these rows."""
        return Binary(self.alphas[rows])


Codebook = Table | Grid | Binary
"""The values that codes stand for, before the row scale."""


def _expect_rows(what: str, values: Tensor, fits: bool, rows: int) -> None:
    if not fits:
        raise ModelError(f"{what} {tuple(values.shape)} do not fit {rows} rows of codes")


def signs(bits: int) -> Tensor:
    """The sign of each bit of each code, -1 or 1, float32 [2**bits, bits]."""
    codes = torch.arange(1 << bits)[:, None]
    return 2.0 * (codes >> torch.arange(bits) & 1) - 1


def in_bytes(table: Table) -> Table:
    """A table of more than 16 centroids as the kernels hold it: multiples of the 127th part of the
    largest. Other tables do not change (`on_grid`)."""
    largest = float(table.centroids.abs().max())
    if table.entries <= 16 or table.centroids.ndim > 1 or largest == 0:
        return table
    step = largest / 127
    return Table(((table.centroids.double() / step).round() * step).float())


def on_grid(centroids: Tensor) -> Tensor:
    """The centroids of a small table as the kernels hold them: whole multiples of a step.

    Up to 8 centroids become integers of at most 31 times the step in magnitude, 9 to 16 of at most
    63 (`native/src/kernels/kernels.h`). The step is the one that moves the centroids least. Larger
    tables, and tables for each row group, do not change: the kernels hold them in 8 bits.
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

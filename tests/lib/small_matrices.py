"""Values to quantize for the tests, and how well codes stand for them."""

from __future__ import annotations

import torch
from torch import Tensor

from tinyvox.model import Binary, Coded, Grid, Table
from tinyvox.quantizers import QUANTIZERS

METHODS = tuple(QUANTIZERS)
ENTROPY_CONSTRAINED = tuple(
    name for name, method in QUANTIZERS.items() if method.entropy_constrained
)
WEIGHTED = tuple(name for name in QUANTIZERS if name not in ("symmetric", "asymmetric"))


def quantize_values(method: str, values: Tensor, bits: float, **options: object) -> Coded:
    return QUANTIZERS[method].quantize_values(values, bits, **options)


def coded(rows: int, columns: int) -> Coded:
    """Random codes of two bits."""
    codes = torch.randint(0, 4, (rows, columns), dtype=torch.uint8)
    return Coded(codes, Table(torch.tensor([-0.6, -0.1, 0.2, 0.7])), torch.rand(rows) + 0.5)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def squared_error(values: Tensor, coded: Coded, weights: Tensor | None = None) -> float:
    error = (values.double() - coded.decode().double()).square()
    return float((error if weights is None else error * weights).sum())


def relative(values: Tensor, coded: Coded) -> float:
    return squared_error(values, coded) / float(values.double().square().sum())


def numbers(coded: Coded) -> tuple[Tensor, ...]:
    """All that the codes are decoded by."""
    book = coded.codebook
    if isinstance(book, Table):
        own: tuple[Tensor, ...] = (book.centroids,)
    elif isinstance(book, Binary):
        own = (book.alphas,)
    else:
        assert isinstance(book, Grid)
        own = (book.zero, torch.tensor([book.entries, book.trellis]))
    group = torch.empty(0) if coded.row_group is None else coded.row_group
    return (coded.codes, coded.scale, group, *own)


def same(a: Coded, b: Coded) -> bool:
    """Whether two matrices are the same to the last bit, in the same form."""
    pairs = zip(numbers(a), numbers(b), strict=True)
    return type(a.codebook) is type(b.codebook) and all(torch.equal(x, y) for x, y in pairs)

"""Matrices: what they decode to, what a part of one is, and what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.matrix import Coded, Dense, Matrix, Product, Table, leaves, on_grid, parameters

Make = Callable[[int, int], Matrix]
TABLE = Table(torch.tensor([-1.0, -0.25, 0.5, 2.0]))


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns))


def coded(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 4, (rows, columns), dtype=torch.uint8)
    return Coded(codes, TABLE, torch.rand(rows) + 0.5)


def product(rows: int, columns: int) -> Product:
    return Product(Product(coded(rows, 3), dense(3, 2)), coded(2, columns))


EVERY = pytest.mark.parametrize("make", [dense, coded, product])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# Decoding.


def test_a_dense_matrix_decodes_to_its_values() -> None:
    values = torch.randn(3, 4)
    assert Dense(values).decode() is values


def test_codes_decode_to_centroids_times_the_scale_of_their_row() -> None:
    codes = torch.tensor([[0, 3, 1], [2, 2, 0]], dtype=torch.uint8)
    found = Coded(codes, TABLE, torch.tensor([2.0, 10.0])).decode()
    assert torch.equal(found, torch.tensor([[-2.0, 4.0, -0.5], [5.0, 5.0, -10.0]]))


def test_the_highest_code_of_a_full_table_decodes() -> None:
    codes = torch.tensor([[255, 128, 0]], dtype=torch.uint8)
    found = Coded(codes, Table(torch.arange(256.0)), torch.ones(1)).decode()
    assert found.tolist() == [[255, 128, 0]]


def test_a_product_decodes_to_the_product_of_its_sides() -> None:
    left, right = coded(5, 3), dense(3, 4)
    found = Product(left, right).decode()
    torch.testing.assert_close(found, left.decode() @ right.decode())


@EVERY
def test_the_shape_is_that_of_the_decoded_matrix(make: Make) -> None:
    matrix = make(5, 7)
    assert matrix.shape == (5, 7)
    assert tuple(matrix.decode().shape) == (5, 7)
    assert matrix.decode().dtype == torch.float32


@pytest.mark.parametrize(
    ("entries", "bits"),
    [(2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5), (128, 7), (129, 8), (256, 8)],
)
def test_bits_are_what_an_index_takes(entries: int, bits: int) -> None:
    table = Table(torch.arange(float(entries)))
    assert table.bits == bits
    assert Coded(torch.zeros(1, 1, dtype=torch.uint8), table, torch.ones(1)).bits == bits


def test_the_rank_of_a_product_is_its_inner_size() -> None:
    assert Product(dense(5, 3), dense(3, 9)).rank == 3
    assert product(5, 9).rank == 2


# Parts.


@EVERY
@settings(max_examples=30, deadline=None)
@given(
    rows=st.none() | st.lists(st.integers(0, 5), min_size=1),
    columns=st.none() | st.lists(st.integers(0, 7), min_size=1),
)
def test_a_part_decodes_to_that_part_of_the_whole(
    make: Make, rows: list[int] | None, columns: list[int] | None
) -> None:
    matrix = make(6, 8)
    whole = matrix.decode().clone()
    some_rows, some_columns = (None if i is None else torch.tensor(i) for i in (rows, columns))
    part = matrix.take(rows=some_rows, columns=some_columns)
    expected = whole if rows is None else whole[rows]
    expected = expected if columns is None else expected[:, columns]
    assert type(part) is type(matrix)
    assert part.shape == tuple(expected.shape)
    torch.testing.assert_close(part.decode(), expected)
    assert torch.equal(matrix.decode(), whole)


def test_a_part_of_codes_shares_the_table_and_has_the_scales_of_its_rows() -> None:
    matrix = coded(6, 8)
    part = matrix.take(rows=torch.tensor([4, 1]), columns=torch.tensor([0, 7]))
    assert part.codebook is TABLE
    assert part.codes.dtype == torch.uint8
    assert torch.equal(part.scale, matrix.scale[[4, 1]])


def test_a_part_of_a_product_keeps_its_rank_and_what_lies_inside() -> None:
    matrix = product(6, 8)
    part = matrix.take(rows=torch.tensor([2]), columns=torch.tensor([3, 5]))
    assert part.rank == matrix.rank
    assert isinstance(part.left, Product)
    assert torch.equal(part.left.right.decode(), matrix.left.right.decode())


# Leaves.


def test_leaves_go_from_left_to_right() -> None:
    a, b, c, d = dense(5, 4), coded(4, 3), dense(3, 2), coded(2, 6)
    assert list(leaves(a)) == [a]
    assert list(leaves(Product(Product(a, b), Product(c, d)))) == [a, b, c, d]
    assert list(leaves(Product(a, Product(b, Product(c, d))))) == [a, b, c, d]


def test_parameters_are_the_weights_of_all_leaves() -> None:
    assert parameters(dense(5, 7)) == parameters(coded(5, 7)) == 35
    assert parameters(product(5, 7)) == 5 * 3 + 3 * 2 + 2 * 7


# Refusals.


def codes(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(3), r"a matrix has 2 dimensions, found shape \(3,\)"),
        (torch.zeros(3, 2, 1), r"a matrix has 2 dimensions, found shape \(3, 2, 1\)"),
        (torch.zeros(3, 2).double(), "a dense matrix is float32, found torch.float64"),
        (torch.zeros(3, 2).half(), "a dense matrix is float32, found torch.float16"),
        (torch.zeros(3, 2).int(), "a dense matrix is float32, found torch.int32"),
    ],
)
def test_dense_values_are_a_float32_matrix(values: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Dense(values)


@pytest.mark.parametrize("shape", [(0,), (1,), (257,), (2, 2), ()])
def test_a_table_holds_2_to_256_centroids(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="a table holds 2 to 256 centroids in one row, found"):
        Table(torch.zeros(shape))


@pytest.mark.parametrize(
    ("codes", "scale", "message"),
    [
        (codes(3), torch.ones(3), r"codes are uint8 \[out, in\], found torch.uint8 \(3,\)"),
        (codes(3, 2).long(), torch.ones(3), r"found torch.int64 \(3, 2\)"),
        (codes(3, 2), torch.ones(2), r"3 rows of codes need as many scales, found \(2,\)"),
        (codes(3, 2), torch.ones(3, 1), r"need as many scales, found \(3, 1\)"),
        (codes(3, 2), torch.ones(()), r"need as many scales, found \(\)"),
        (codes(3, 2) + 4, torch.ones(3), "code 4 lies outside a table of 4 centroids"),
        (codes(3, 2) + 255, torch.ones(3), "code 255 lies outside a table of 4 centroids"),
    ],
)
def test_codes_fit_their_scales_and_their_table(codes: Tensor, scale: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Coded(codes, TABLE, scale)


def test_the_sides_of_a_product_fit() -> None:
    with pytest.raises(ModelError, match=r"factors do not fit: \[5, 3\] times \[4, 7\]"):
        Product(dense(5, 3), coded(4, 7))


@EVERY
def test_matrices_are_frozen(make: Make) -> None:
    matrix = make(3, 4)
    for field in dataclasses.fields(matrix):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(matrix, field.name, None)


@pytest.mark.parametrize(("entries", "most"), [(2, 31), (8, 31), (9, 63), (16, 63)])
def test_small_tables_come_to_lie_on_the_kernels_grid(entries: int, most: int) -> None:
    centroids = torch.randn(entries, generator=torch.Generator().manual_seed(entries)).sort().values
    found = on_grid(centroids)
    largest = found.abs().max()
    fits = [
        top
        for top in range(1, most + 1)
        if torch.allclose(found * top / largest, (found * top / largest).round(), atol=1e-4)
    ]
    assert fits
    assert (found - centroids).abs().max() <= largest / (most * 2 // 3) / 2 * 1.001
    torch.testing.assert_close(on_grid(found), found)


def test_large_tables_and_zeros_stay_as_they_are() -> None:
    large = torch.randn(17)
    assert torch.equal(on_grid(large), large)
    assert torch.equal(on_grid(torch.zeros(4)), torch.zeros(4))

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
from tinyvox.model import (
    Binary,
    Codebook,
    Coded,
    Dense,
    Grid,
    Matrix,
    Product,
    Table,
    leaves,
    nearest,
    on_grid,
    signs,
)

Make = Callable[[int, int], Matrix]
TABLE = Table(torch.tensor([-1.0, -0.25, 0.5, 2.0]))


def dense(rows: int, columns: int) -> Dense:
    return Dense(torch.randn(rows, columns))


def coded(rows: int, columns: int) -> Coded:
    codes = torch.randint(0, 4, (rows, columns), dtype=torch.uint8)
    return Coded(codes, TABLE, torch.rand(rows) + 0.5)


def product(rows: int, columns: int) -> Product:
    return Product(Product(coded(rows, 3), dense(3, 2)), coded(2, columns))


def with_book(rows: int, columns: int, book: Codebook, group: Tensor | None = None) -> Coded:
    codes = torch.randint(0, book.entries, (rows, columns), dtype=torch.uint8)
    return Coded(codes, book, torch.rand(rows) + 0.5, group)


def tables(rows: int, columns: int) -> Coded:
    """A table for each of up to three groups of rows."""
    group = (torch.arange(rows) % 3).to(torch.uint8)
    count = int(group.max()) + 1
    return with_book(rows, columns, Table(torch.randn(count, 5).sort(1).values), group)


def grid(rows: int, columns: int) -> Coded:
    return with_book(rows, columns, Grid(9, torch.tensor([4])))


def zeros(rows: int, columns: int) -> Coded:
    """A zero for each row."""
    return with_book(rows, columns, Grid(8, torch.arange(rows) % 8))


def binary(rows: int, columns: int) -> Coded:
    return with_book(rows, columns, Binary(torch.rand(rows, 3)))


CODED = [coded, tables, grid, zeros, binary]
EVERY = pytest.mark.parametrize("make", [dense, product, *CODED])


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


def test_codes_of_a_grid_decode_to_their_distance_from_zero_times_the_step() -> None:
    codes = torch.tensor([[0, 3, 1], [2, 2, 0]], dtype=torch.uint8)
    one = Coded(codes, Grid(4, torch.tensor([1])), torch.tensor([2.0, 10.0]))
    assert one.decode().tolist() == [[-2, 4, 0], [10, 10, -10]]
    two = Coded(codes, Grid(4, torch.tensor([1, 2])), torch.tensor([2.0, 10.0]))
    assert two.decode().tolist() == [[-2, 4, 0], [0, 0, -20]]


def test_codes_of_bits_decode_to_the_signed_sum_of_the_alphas() -> None:
    codes = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]], dtype=torch.uint8)
    book = Binary(torch.tensor([[4.0, 1.0], [2.0, 0.5]]))
    found = Coded(codes, book, torch.tensor([1.0, 10.0])).decode()
    assert found.tolist() == [[-5, 3, -3, 5], [-25, 15, -15, 25]]
    assert signs(2).tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]


def test_rows_of_a_group_decode_by_its_table() -> None:
    book = Table(torch.tensor([[0.0, 1.0], [5.0, 7.0]]))
    codes = torch.tensor([[0, 1], [0, 1], [1, 0]], dtype=torch.uint8)
    group = torch.tensor([1, 0, 1], dtype=torch.uint8)
    assert Coded(codes, book, torch.ones(3), group).decode().tolist() == [[5, 7], [0, 1], [7, 5]]


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
    for book in (Table(torch.arange(float(entries))), Grid(entries, torch.tensor([1]))):
        assert Coded(codes(1, 1), book, torch.ones(1)).bits == bits


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


def test_a_part_of_groups_counts_those_that_are_left_from_zero() -> None:
    matrix = tables(6, 8)
    part = matrix.take(rows=torch.tensor([5, 1, 2]))
    assert part.row_group is not None
    assert part.row_group.tolist() == [1, 0, 1]
    assert part.row_groups == 2
    assert part.codebook.entries == 5
    assert torch.equal(part.decode(), matrix.decode()[[5, 1, 2]])


def test_some_rows_of_a_trellis_follow_it_no_more() -> None:
    trellis = Coded(codes(6, 8), Grid(3, torch.tensor([0]), trellis=True), torch.ones(6))
    columns = trellis.take(columns=torch.tensor([3, 1])).codebook
    rows = trellis.take(rows=torch.tensor([3, 1])).codebook
    assert isinstance(columns, Grid)
    assert isinstance(rows, Grid)
    assert columns.trellis
    assert not rows.trellis
    assert not trellis.with_codes(trellis.codes, without_trellis=True).codebook.trellis  # type: ignore[union-attr]
    assert trellis.with_codes(trellis.codes).codebook is trellis.codebook


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


@pytest.mark.parametrize("shape", [(0,), (1,), (257,), (2, 1), (2, 257), (2, 2, 2), ()])
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
        (codes(3, 2) + 4, torch.ones(3), "code 4 lies outside a codebook of 4 entries"),
        (codes(3, 2) + 255, torch.ones(3), "code 255 lies outside a codebook of 4 entries"),
    ],
)
def test_codes_fit_their_scales_and_their_table(codes: Tensor, scale: Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Coded(codes, TABLE, scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(1, torch.tensor([0])), "a grid has 2 to 256 levels, found 1"),
        (lambda: Grid(257, torch.tensor([0])), "a grid has 2 to 256 levels, found 257"),
        (lambda: Grid(4, torch.tensor([4])), "the zeros of a grid lie within its 4 codes"),
        (lambda: Grid(4, torch.tensor([-1])), "the zeros of a grid lie within its 4 codes"),
        (lambda: Grid(4, torch.tensor(0)), "the zeros of a grid lie within its 4 codes"),
        (lambda: Grid(4, torch.tensor([1, 1]), True), "a trellis has one zero for all rows"),
        (lambda: Binary(torch.ones(3)), r"1 to 8 alphas a row, found \(3,\)"),
        (lambda: Binary(torch.ones(3, 0)), r"1 to 8 alphas a row, found \(3, 0\)"),
        (lambda: Binary(torch.ones(3, 9)), r"1 to 8 alphas a row, found \(3, 9\)"),
    ],
)
def test_other_codebooks_have_their_bounds(make: Callable[[], Codebook], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()


@pytest.mark.parametrize(
    ("book", "group", "message"),
    [
        (TABLE, [0, 0], r"3 rows of codes lie in as many groups, found \(2,\)"),
        (Table(torch.zeros(2, 4)), [0, 1, 2], r"centroids \(2, 4\) do not fit 3 rows"),
        (Table(torch.zeros(2, 4)), None, r"centroids \(2, 4\) do not fit 3 rows"),
        (Grid(4, torch.tensor([0, 1])), None, r"zero \(2,\) do not fit 3 rows of codes"),
        (Binary(torch.ones(2, 2)), None, r"alphas \(2, 2\) do not fit 3 rows of codes"),
    ],
)
def test_codes_fit_their_groups_and_their_codebook(
    book: Codebook, group: list[int] | None, message: str
) -> None:
    groups = None if group is None else torch.tensor(group, dtype=torch.uint8)
    with pytest.raises(ModelError, match=message):
        Coded(codes(3, 2), book, torch.ones(3), groups)


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
    of_groups = torch.randn(3, 4)
    assert torch.equal(on_grid(of_groups), of_groups)


# The nearest level, and zero.


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-10, 10, width=16), min_size=4, max_size=40, unique=True),
    st.lists(st.floats(-12, 12, width=16), min_size=2, max_size=20),
    st.booleans(),
)
def test_nearest_is_the_level_at_the_smallest_distance(
    levels: list[float], x: list[float], by_row: bool
) -> None:
    """In any order, for all rows or for each of two."""
    count = len(levels) // 2 * 2
    table = torch.tensor(levels[:count]).view(2 if by_row else 1, -1)
    values = torch.tensor(x[: len(x) // 2 * 2]).view(2, -1)
    distance = (values[:, :, None] - table[:, None]).abs()
    found = distance.gather(2, nearest(values, table)[:, :, None])[:, :, 0]
    assert torch.equal(found, distance.min(dim=2).values)


@pytest.mark.parametrize("make", CODED)
def test_what_was_decoded_has_its_own_codes(make: Callable[[int, int], Coded]) -> None:
    matrix = make(6, 40)
    again = matrix.with_codes(matrix.nearest(matrix.decode()))
    torch.testing.assert_close(again.decode(), matrix.decode())


@pytest.mark.parametrize("make", CODED)
def test_codes_of_zero_decode_to_zero(make: Callable[[int, int], Coded]) -> None:
    matrix = make(6, 8)
    found = matrix.zero_codes()
    assert (found is None) == (make not in (grid, zeros))
    if found is not None:
        again = matrix.with_codes(found[:, None].expand(6, 8).contiguous())
        assert bool((again.decode() == 0).all())


def test_rows_share_a_scale_where_those_of_each_group_do() -> None:
    group = torch.tensor([0, 1, 0], dtype=torch.uint8)
    for scale, of_group, of_all in (([2, 3, 2], True, False), ([2, 3, 3], False, False),
                                    ([2, 2, 2], True, True)):  # fmt: skip
        scales = torch.tensor(scale).float()
        assert Coded(codes(3, 2), TABLE, scales, group).shares_scale is of_group
        assert Coded(codes(3, 2), TABLE, scales).shares_scale is of_all

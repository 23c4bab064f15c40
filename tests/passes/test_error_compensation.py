"""Quantization with error compensation, against nearest codes and least squares."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from torch import Tensor
from trellis_walk import walk

from tinyvox.model import Coded, Dense, Grid, Product, Table
from tinyvox.passes import Weighting, inner_second_moment, refit_left
from tinyvox.passes.lowrank import decompose, product
from tinyvox.passes.quantization import code_leaf, compensate, error_compensation, unbiased
from tinyvox.quantizers import coded_bits, entropy, kmeans, price_codes, widened
from tinyvox.recipe import Method, QuantizeRule


def correlated(size: int, seed: int = 0) -> Tensor:
    """The second moment of inputs that go together, float64 [size, size]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size // 2, generator=generator, dtype=torch.float64)
    return mix @ mix.T + 0.1 * torch.eye(size, dtype=torch.float64)


def loss(values: Tensor, other: Tensor, second_moment: Tensor) -> float:
    error = (values - other).double()
    return float(((error @ second_moment) * error).sum())


def test_nothing_is_fed_back_where_inputs_do_not_go_together() -> None:
    torch.manual_seed(0)
    values = torch.randn(20, 70)
    coded = kmeans(values, 3)
    energies = torch.rand(70, dtype=torch.float64) + 0.1
    expected = coded.nearest(values)
    assert torch.equal(compensate(values, coded, energies.diag()).codes.long(), expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_feedback_loses_less_than_nearest_codes(bits: int) -> None:
    torch.manual_seed(bits)
    values, second_moment = torch.randn(64, 130), correlated(130)
    coded = kmeans(values, bits)
    fed = compensate(values, coded, second_moment)
    assert loss(values, fed.decode(), second_moment) < 0.75 * loss(
        values, coded.decode(), second_moment
    )
    assert torch.equal(fed.scale, coded.scale)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    values, second_moment = torch.randn(9, 37), correlated(37)
    coded = kmeans(values, 2)
    whole = compensate(values, coded, second_moment)
    monkeypatch.setattr("tinyvox.passes.quantization.error_compensation.BLOCK", 5)
    assert (compensate(values, coded, second_moment).codes == whole.codes).float().mean() > 0.99


def test_feedback_is_near_the_best_of_all_codes() -> None:
    """Every choice of four codes of two levels, tried out."""
    torch.manual_seed(0)
    values, second_moment = torch.randn(200, 4), correlated(4)
    coded = Coded(
        torch.zeros(200, 4, dtype=torch.uint8), Table(torch.tensor([-0.8, 0.8])), torch.ones(200)
    )
    choices = torch.tensor(list(itertools.product([-0.8, 0.8], repeat=4)))
    errors = (values[:, None] - choices[None]).double()
    best = float(((errors @ second_moment) * errors).sum(2).min(1).values.sum())
    nearest = loss(values, values.sign() * 0.8, second_moment)
    fed = loss(values, compensate(values, coded, second_moment).decode(), second_moment)
    assert best <= fed < best + 0.5 * (nearest - best)


def test_rows_of_zeros_stay_zero() -> None:
    values = torch.randn(4, 16)
    values[2] = 0
    fed = compensate(values, kmeans(values, 2), correlated(16))
    assert bool((fed.decode()[2] == 0).all())


def test_the_left_factor_is_refitted_by_least_squares() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(12, 5), torch.randn(5, 30)
    coarse = kmeans(right, 2).decode()
    x = torch.randn(4000, 30) @ torch.randn(30, 30)
    second_moment = (x.T @ x).double() / len(x)
    wanted, given = x @ (left @ right).T, x @ coarse.T
    expected = torch.linalg.lstsq(given.double(), wanted.double()).solution.T
    found = refit_left(left, right, coarse, second_moment)
    torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.02)
    refitted, before = (
        loss(left @ right, found @ coarse, second_moment),
        loss(left @ right, left @ coarse, second_moment),
    )
    assert refitted < before


def test_the_inner_metric_is_the_second_moment_of_the_right_factors_outputs() -> None:
    torch.manual_seed(0)
    right, x = torch.randn(3, 8), torch.randn(5000, 8)
    inputs = x @ right.T
    expected = (inputs.T @ inputs).double() / len(x)
    found = inner_second_moment(right, (x.T @ x).double() / len(x))
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.02)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_unbiased_rows_are_as_long_along_their_originals(bits: int) -> None:
    torch.manual_seed(bits)
    values, second_moment = torch.randn(30, 64), correlated(64)
    coded = kmeans(values, bits)
    for weighing in (None, second_moment):
        kept = unbiased(values, coded, weighing)
        weighed = values.double() if weighing is None else values.double() @ weighing
        along = (weighed * kept.decode()).sum(1)
        torch.testing.assert_close(along, (weighed * values).sum(1), rtol=2e-3, atol=1e-3)
        assert torch.equal(kept.codes, coded.codes)


def test_a_row_of_codes_that_says_nothing_keeps_its_scale() -> None:
    values = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    coded = Coded(
        torch.tensor([[1, 1], [0, 0]], dtype=torch.uint8),
        Table(torch.tensor([0.0, 1.0])),
        torch.ones(2),
    )
    assert torch.equal(unbiased(values, coded).scale, torch.ones(2))


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_a_decomposition_for_inputs_loses_least_of_the_outputs(rank: int) -> None:
    torch.manual_seed(0)
    values, second_moment = torch.randn(14, 20), correlated(20)
    for_inputs = product(decompose(values, Weighting(second_moment)), rank).decode()
    plain = product(decompose(values), rank).decode()
    found = loss(values, for_inputs, second_moment)
    assert found < loss(values, plain, second_moment)
    assert found == pytest.approx(decompose(values, Weighting(second_moment)).tail(rank), rel=1e-3)


def test_a_decomposition_of_full_rank_is_the_matrix() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 9)
    whole = product(decompose(values, Weighting(correlated(9))), 6)
    assert isinstance(whole, Product)
    assert isinstance(whole.left, Dense)
    torch.testing.assert_close(whole.decode(), values, rtol=1e-3, atol=1e-4)


# Zeros, and every method.


def sparse(rows: int, columns: int) -> Tensor:
    """Four fifths are zero."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(rows, columns, generator=generator)
    return torch.where(torch.rand(rows, columns, generator=generator) < 0.8, 0, values)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize(
    "method", ["symmetric", "asymmetric", "omse", "kmeans", "entropy", "trellis"]
)
def test_zeros_that_were_there_stay_zero(method: Method, bits: int) -> None:
    values = sparse(64, 80)
    coded = code_leaf(values, QuantizeRule(method=method, bits=bits), Weighting(correlated(80)))
    assert coded.zero_codes() is not None
    assert bool((coded.decode()[values == 0] == 0).all())


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_loses_less_with_feedback(method: Method) -> None:
    torch.manual_seed(0)
    values, second_moment = torch.randn(96, 128), correlated(128)
    rule = QuantizeRule(method=method, bits=3, unbiased=False)
    plain, fed = code_leaf(values, rule), code_leaf(values, rule, Weighting(second_moment))
    assert loss(values, fed.decode(), second_moment) < 0.8 * loss(
        values, plain.decode(), second_moment
    )
    assert type(fed.codebook) is type(plain.codebook)


@pytest.mark.parametrize("bits", [0.5, 2.0])
@pytest.mark.parametrize("method", ["entropy", "trellis"])
def test_codes_by_price_keep_to_the_bits_with_feedback(method: Method, bits: float) -> None:
    torch.manual_seed(0)
    values = torch.randn(192, 256)
    fed = code_leaf(values, QuantizeRule(method=method, bits=bits), Weighting(correlated(256)))
    assert 0.97 * bits <= coded_bits(fed) <= 1.01 * bits


def test_feedback_leaves_a_trellis_followed() -> None:
    torch.manual_seed(0)
    coded = code_leaf(
        torch.randn(40, 30), QuantizeRule(method="trellis", bits=3), Weighting(correlated(30))
    )
    book = coded.codebook
    assert isinstance(book, Grid)
    assert book.trellis
    for column in coded.codes.T.numpy():
        assert walk(column, book.entries, int(book.zero[0])) is not None


@pytest.mark.parametrize("rows", [400, 3000])
def test_the_native_loop_gives_the_codes_and_errors_of_one_column_after_the_other(
    rows: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, 24, generator=generator)
    importance = torch.rand(rows, generator=generator).double() + 0.01
    coded = widened(entropy(values, 1.5, importance=importance))
    order = error_compensation._order(correlated(24))
    block = error_compensation._Block(
        values[:, order.order].clone(),
        torch.zeros(rows, 24, dtype=torch.bool),
        order.spread,
        order.weights,
    )
    prices = price_codes(coded)
    codes, errors = error_compensation._block_coder(coded, prices)(block)
    pick = error_compensation._keep_zeros(error_compensation._priced(coded, prices), coded)
    expected = error_compensation._code_one_by_one(block, pick, coded)
    assert torch.equal(codes, expected[0])
    assert torch.equal(errors, expected[1])


def test_a_grid_that_needs_fewer_bits_is_not_made_finer_than_it_reaches() -> None:
    """Values on a coarse grid, as an 8-bit original has them: more bits than they need must not
    cut off those that are farthest out."""
    generator = torch.Generator().manual_seed(0)
    multiples = (torch.randn(256, 256, generator=generator) * 2).round()
    multiples[::8, 3] = 127
    values = multiples * 0.0128
    inputs = torch.randn(2000, 256, generator=generator) @ torch.randn(
        256, 256, generator=generator
    )
    moment = (inputs.T @ inputs / 2000).double()
    rule = QuantizeRule(bits=3.6, method="entropy", error_compensation=True)
    coded = code_leaf(values, rule, Weighting(moment + 0.01 * torch.eye(256).double()))
    error = (coded.decode() - values).square().sum() / values.square().sum()
    assert error < 1e-4
    assert coded.decode()[::8, 3].min() > 0.95 * 127 * 0.0128

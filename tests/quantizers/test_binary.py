"""Multi-bit binary codes: greedy, refined, alternating, each at least as close as the last."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_matrices import normal, quantize_values, relative, squared_error
from torch import Tensor

from tinyvox.model import Binary, Coded, nearest, signs
from tinyvox.quantizers import alternating, greedy, omse, refined
from tinyvox.quantizers import binary as module

ROUNDED = 2.0**-20
"""What rounding to float16 may add to an error, relative to the values."""


def alphas(coded: Coded) -> Tensor:
    assert isinstance(coded.codebook, Binary)
    return coded.codebook.alphas


def least_squares(values: Tensor, coded: Coded) -> Tensor:
    """The numbers that fit the codes of each row best, float64 [out, bits]."""
    sign = signs(alphas(coded).shape[1]).double()[coded.codes.long()]
    rows = zip(sign, values.double(), strict=True)
    return torch.stack([torch.linalg.lstsq(s, v[:, None]).solution[:, 0] for s, v in rows])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(2, 80), st.integers(1, 8), st.integers(0, 1000))
def test_each_loses_no_more_than_the_one_before(
    rows: int, columns: int, bits: int, seed: int
) -> None:
    values = normal(rows, columns, seed)
    slack = ROUNDED * float(values.double().square().sum())
    first, second, third = (
        squared_error(values, method(values, bits)) for method in (greedy, refined, alternating)
    )
    assert first + slack >= second >= third - slack


@pytest.mark.parametrize("bits", range(1, 9))
def test_each_loses_less_than_the_one_before_on_a_gaussian(bits: int) -> None:
    values = normal(32, 512)
    first, second, third = (
        relative(values, method(values, bits)) for method in (greedy, refined, alternating)
    )
    if bits == 1:
        assert first == second == third == pytest.approx(1 - 2 / torch.pi, rel=0.01)
    else:
        assert first > 1.02 * second > 1.04 * third


@pytest.mark.parametrize(("bits", "error"), [(2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_alternating_lies_between_free_levels_and_even_ones(bits: int, error: float) -> None:
    """Free ones: Max, 1960, table I, less what rows of 1024 fit better than many."""
    values = normal(32, 1024)
    found = relative(values, alternating(values, bits))
    assert 0.98 * error < found < relative(values, omse(values, bits))


# One bit.


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000), st.booleans())
def test_one_bit_is_the_exact_optimum(count: int, seed: int, weighted: bool) -> None:
    """Of all signs, each with the number that fits best; which is |x|^2 - (sum |x|)^2 / n."""
    values = normal(1, count, seed)
    weights = normal(1, count, seed + 1).abs() if weighted else torch.ones(1, count)
    x, w = values[0].double(), weights[0].double()
    choices = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=count))).double()
    gains = (choices @ (w * x)).square() / w.sum()
    least = float((w * x * x).sum() - gains.max())
    assert least == pytest.approx(float((w * x * x).sum() - (w * x.abs()).sum() ** 2 / w.sum()))
    slack = ROUNDED * float((w * x * x).sum())
    for method in (greedy, refined, alternating):
        found = squared_error(values, method(values, 1, error_weights=weights), weights)
        assert found == pytest.approx(least, rel=1e-5, abs=slack)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 60), st.integers(0, 1000))
def test_each_greedy_bit_is_the_best_for_what_is_left(bits: int, columns: int, seed: int) -> None:
    values = normal(4, columns, seed)
    found = alphas(greedy(values, bits))
    rest = values.double()
    for bit in range(bits):
        best = rest.abs().mean(1)
        scale = values.abs().mean(1)
        assert bool(((found[:, bit] - best).abs() <= 2e-3 * scale).all())
        rest = rest - best[:, None] * torch.where(rest >= 0, 1.0, -1.0)


# Least squares, and the fixed point.


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(20, 100), st.integers(0, 1000))
def test_refined_numbers_fit_their_codes_best(bits: int, columns: int, seed: int) -> None:
    values = normal(4, columns, seed)
    coded = refined(values, bits)
    torch.testing.assert_close(alphas(coded).double(), least_squares(values, coded), rtol=2e-3,
                               atol=1e-3)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 100), st.integers(0, 1000))
def test_alternating_codes_are_the_nearest_ones(bits: int, columns: int, seed: int) -> None:
    values = normal(4, columns, seed)
    coded = alternating(values, bits)
    distance = (values[:, :, None] - coded.levels()[:, None]).abs()
    own = distance.gather(2, coded.codes.long()[:, :, None])[:, :, 0]
    assert torch.equal(own, distance.min(dim=2).values)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_alternating_ends_where_neither_step_gains(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUNDS", 200)
    monkeypatch.setattr(module, "compact", lambda scale: scale)
    values = normal(8, 200)
    coded = alternating(values, bits)
    assert torch.equal(coded.codes.long(), nearest(values, coded.levels()))
    fitted = least_squares(values, coded)
    torch.testing.assert_close(alphas(coded).double(), fitted, rtol=1e-4, atol=1e-5)


def test_a_few_rounds_are_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(16, 400)
    few = relative(values, alternating(values, 3))
    monkeypatch.setattr(module, "ROUNDS", 200)
    assert relative(values, alternating(values, 3)) > 0.97 * few


def test_sums_of_the_bits_are_found_again() -> None:
    """Values that two bits of each row make, in numbers that float16 holds."""
    book = Binary(torch.tensor([[2.0, 0.5], [1.0, 0.25], [4.0, 1.5]]))
    codes = torch.arange(4, dtype=torch.uint8).repeat(3, 10)
    values = Coded(codes, book, torch.ones(3)).decode()
    for method in (refined, alternating):
        torch.testing.assert_close(method(values, 2).decode(), values, rtol=1e-5, atol=1e-5)


# Rows stand alone.


@pytest.mark.parametrize("method", ["greedy", "refined", "alternating"])
def test_rows_are_coded_as_matrices_of_their_own(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, weights = normal(9, 40), normal(9, 40, 1).square()
    whole = quantize_values(method, values, 3, error_weights=weights)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 80)
    assert torch.equal(
        quantize_values(method, values, 3, error_weights=weights).decode(), whole.decode()
    )
    alone = [
        quantize_values(method, v[None], 3, error_weights=w[None])
        for v, w in zip(values, weights, strict=True)
    ]
    torch.testing.assert_close(torch.cat([each.decode() for each in alone]), whole.decode())


def test_an_outlier_takes_little_from_the_others() -> None:
    """Least squares lets two numbers cancel for all other values."""
    values = normal(1, 400)
    values[0, 7] = 300.0
    coded = alternating(values, 3)
    others = torch.arange(400) != 7
    assert relative(values[:, others], coded.take(columns=others)) < 0.2

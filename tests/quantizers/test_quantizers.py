"""What all quantizers have in common: what they take, what they refuse, what changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from cases import all_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from small_matrices import (
    ENTROPY_CONSTRAINED,
    METHODS,
    WEIGHTED,
    normal,
    quantize_values,
    relative,
    same,
    squared_error,
)
from small_models import chain, linear
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import Coded, Dense, layers
from tinyvox.passes.quantization import quantize
from tinyvox.quantizers import QUANTIZERS
from tinyvox.recipe import QuantizeSettings

EVERY = pytest.mark.parametrize("method", METHODS)
PLAIN = tuple(method for method in METHODS if method not in ENTROPY_CONSTRAINED)


# Form.


@EVERY
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 40),
    bits=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_codes_fit_the_bits(method: str, rows: int, columns: int, bits: int, seed: int) -> None:
    """Those of a coded file may be longer before it."""
    values = normal(rows, columns, seed)
    before = values.clone()
    coded = quantize_values(method, values, bits)
    assert isinstance(coded, Coded)
    assert coded.shape == (rows, columns)
    assert coded.bits <= (8 if method in ENTROPY_CONSTRAINED else bits)
    assert bool((coded.scale >= 0).all())
    assert bool(torch.isfinite(coded.decode()).all())
    assert torch.equal(values, before)


@EVERY
def test_the_result_depends_on_the_arguments_alone(method: str) -> None:
    values = normal(30, 50)
    torch.manual_seed(1)
    first = quantize_values(method, values, 3)
    torch.manual_seed(2)
    second = quantize_values(method, values.clone(), 3)
    assert same(first, second)


@EVERY
def test_views_are_coded_as_copies_are(method: str) -> None:
    values = normal(50, 30).T
    assert same(quantize_values(method, values, 3), quantize_values(method, values.contiguous(), 3))


@EVERY
def test_more_bits_lose_less(method: str) -> None:
    values = normal(20, 200)
    errors = [relative(values, quantize_values(method, values, bits)) for bits in range(1, 6)]
    assert errors == sorted(errors, reverse=True)


# What changes nothing.


@EVERY
@settings(max_examples=6, deadline=None)
@given(power=st.integers(-5, 5), seed=st.integers(0, 1000), bits=st.integers(1, 4))
def test_a_power_of_two_scales_the_result_exactly(
    method: str, power: int, seed: int, bits: int
) -> None:
    """As long as scales and levels stay normal numbers of float16."""
    values = normal(8, 40, seed)
    small, large = (
        quantize_values(method, values, bits),
        quantize_values(method, values * 2.0**power, bits),
    )
    assert torch.equal(large.decode(), small.decode() * 2.0**power)


@EVERY
def test_sizes_far_from_one_lose_nothing_more(method: str) -> None:
    values = normal(40, 200)
    expected = relative(values, quantize_values(method, values, 3))
    with all_cases() as case:
        for size in (2.0**-100, 1e-30, 1e-10, 1e10, 1e30, 2.0**100):
            found = relative(values * size, quantize_values(method, values * size, 3))
            with case(size=size):
                assert found == pytest.approx(expected, rel=0.02)


@EVERY
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), bits=st.integers(1, 4))
def test_the_negative_is_coded_as_the_negative(method: str, seed: int, bits: int) -> None:
    """Exactly, but where sums of the other order or a zero between levels round another way."""
    values = normal(8, 40, seed)
    found, negative = quantize_values(method, values, bits), quantize_values(method, -values, bits)
    if method in ("kmeans", "asymmetric"):
        expected = pytest.approx(relative(values, found), rel=0.05)
        assert relative(-values, negative) == expected
    else:
        assert torch.equal(negative.decode(), -found.decode())


@EVERY
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), bits=st.integers(1, 4))
def test_the_order_of_rows_makes_no_difference(method: str, seed: int, bits: int) -> None:
    """Nor that of columns to a trellis, whose codes run down the rows."""
    values = normal(10, 40, seed)
    order = torch.randperm(40 if method == "trellis" else 10)

    def ordered(x: Tensor) -> Tensor:
        return x[:, order] if method == "trellis" else x[order]

    found, other = (
        quantize_values(method, values, bits),
        quantize_values(method, ordered(values), bits),
    )
    if method in ("kmeans", "entropy", "trellis"):  # sums over the whole matrix
        assert relative(values, found) == pytest.approx(relative(ordered(values), other), rel=0.02)
    else:
        assert torch.equal(other.decode(), ordered(found.decode()))


# Odd matrices.


@EVERY
def test_zeros_and_nothing_are_coded_without_loss(method: str) -> None:
    with all_cases() as case:
        for shape, bits in itertools.product([(3, 4), (1, 1), (0, 4), (4, 0)], [1, 2, 4]):
            coded = quantize_values(method, torch.zeros(shape), bits)
            with case(shape=shape, bits=bits):
                assert torch.equal(coded.decode(), torch.zeros(shape))


@EVERY
def test_a_constant_keeps_its_sign_and_size(method: str) -> None:
    with all_cases() as case:
        for value, bits in itertools.product([0.5, -0.5, 2.5e-3, -1e20], [2, 3, 5]):
            values = torch.full((4, 6), value)
            found = quantize_values(method, values, bits).decode()
            with case(value=value, bits=bits):
                torch.testing.assert_close(found, values, rtol=2e-3, atol=0)


@pytest.mark.parametrize("method", PLAIN)
def test_one_row_and_one_column_are_coded(method: str) -> None:
    """A column by its row scales; `test_entropy` says it of what is entropy-constrained."""
    with all_cases() as case:
        for shape, size in itertools.product([(1, 60), (60, 1)], [1e-30, 1.0, 1e30]):
            values = normal(*shape) * size
            found = relative(values, quantize_values(method, values, 4))
            with case(shape=shape, size=size):
                assert found < (1e-6 if shape[1] == 1 else 0.03)


@EVERY
def test_an_outlier_spoils_nothing_but_its_neighbors(method: str) -> None:
    """At 4 bits it is kept, all else is finite, and where rows have their own scales other rows
    are as they were."""
    values, others = normal(24, 64), torch.arange(24) != 3
    plain = quantize_values(method, values, 4).decode()
    before = float((plain - values)[others].square().sum())
    with all_cases() as case:
        for outlier in (1e30, -1e30, 300.0):
            values[3, 7] = outlier
            found = quantize_values(method, values, 4).decode()
            after = float((found - values)[others].square().sum())
            with case(outlier=outlier):
                assert bool(torch.isfinite(found).all())
                if method != "greedy":  # whose bits halve what is left of it, on average
                    assert found[3, 7] == pytest.approx(outlier, rel=0.05)
                if method in ("symmetric", "asymmetric", "omse"):
                    assert after == pytest.approx(before, rel=0.02)


@EVERY
def test_a_row_of_almost_nothing_stays_small(method: str) -> None:
    others = torch.arange(24) != 5
    with all_cases() as case:
        for size in (1e-30, 1e-10, 0.0):
            values = normal(24, 64)
            values[5] *= size
            found = quantize_values(method, values, 4).decode()
            error = float((found - values)[others].square().sum())
            with case(size=size):
                if method != "trellis":  # whose path may pass by zero
                    assert float(found[5].abs().max()) <= 4 * size
                assert error < 0.04 * float(values.square().sum())


@pytest.mark.parametrize("size", [3.4e38, -3.4e38])
@EVERY
def test_the_largest_floats_are_coded_or_refused(method: str, size: float) -> None:
    values = normal(6, 40)
    try:
        coded = quantize_values(method, values / values.abs().max() * size, 3)
    except ModelError:
        return
    assert bool(torch.isfinite(coded.decode()).all())


# Weights.


@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_of_one_are_no_weights(method: str) -> None:
    values = normal(6, 40)
    expected = quantize_values(method, values, 3)
    with all_cases() as case:
        for shape in ((), (40,), (1, 40), (6, 1), (6, 40)):
            with case(shape=shape):
                found = quantize_values(method, values, 3, error_weights=torch.ones(shape))
                assert same(found, expected)


@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_of_zero_for_all_give_finite_values(method: str) -> None:
    coded = quantize_values(method, normal(3, 50), 2, error_weights=torch.zeros(()))
    assert bool(torch.isfinite(coded.decode()).all())


@pytest.mark.parametrize("method", WEIGHTED)
def test_a_value_of_weight_zero_does_not_count(method: str) -> None:
    values, weights = normal(16, 64), torch.ones(16, 64)
    weights[3, 5] = 0
    expected = squared_error(
        values, quantize_values(method, values, 3, error_weights=weights), weights
    )
    values[3, 5] = 1e4
    found = squared_error(
        values, quantize_values(method, values, 3, error_weights=weights), weights
    )
    assert found == pytest.approx(expected, rel=0.05)


# Refusals.


REFUSED = [
    (torch.zeros(4), 2, r"takes float32 \[out, in\], found torch.float32 \(4,\)"),
    (torch.zeros(2, 2).double(), 2, r"found torch.float64 \(2, 2\)"),
    (normal(2, 3), 0, "bits is 0, expected "),
    (normal(2, 3), 9, "bits is 9, expected "),
    (torch.tensor([[1.0, torch.nan]]), 2, "hold NaN or infinity; mend the source model"),
    (torch.tensor([[1.0, torch.inf]]), 2, "hold NaN or infinity"),
    (torch.tensor([[1.0, -torch.inf]]), 2, "hold NaN or infinity"),
]


@EVERY
def test_what_cannot_be_coded_is_refused(method: str) -> None:
    for values, bits, message in REFUSED:
        with pytest.raises(ModelError, match=message):
            quantize_values(method, values, bits)


BAD_WEIGHTS = [
    (torch.ones(2), r"weights \(2,\) do not fit values \(2, 3\)"),
    (torch.ones(3, 2), r"weights \(3, 2\) do not fit"),
    (torch.ones(1, 2, 3), r"weights \(1, 2, 3\) do not fit"),
    (torch.tensor([1.0, -1, 1]), "must be finite and zero or above"),
    (torch.tensor([1.0, torch.nan, 1]), "must be finite and zero or above"),
]


@pytest.mark.parametrize("method", WEIGHTED)
def test_weights_that_do_not_fit_are_refused(method: str) -> None:
    for weights, message in BAD_WEIGHTS:
        with pytest.raises(ModelError, match=message):
            quantize_values(method, normal(2, 3), 2, error_weights=weights)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_no_layer_reaches_a_method_with_what_it_refuses(value: float) -> None:
    """The model that would hold it is refused, and the layer named."""
    values = normal(5, 8)
    values[2, 3] = value
    with pytest.raises(ModelError, match=r"layer 'broken' \(Linear\): weight holds NaN or infini"):
        chain(6, first=linear(8, 6), broken=layers.Linear(Dense(values)))


@pytest.mark.parametrize("method", ["symmetric", "asymmetric", "omse", "kmeans"])
def test_the_layer_that_cannot_be_coded_is_named(method: str) -> None:
    model = chain(3, small=linear(9, 3), large=linear(257, 9))
    rule = QuantizeSettings(method=method, bits=2, granularity=1)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"layer 'large\.weight': 257 rows make 257 groups of 1"):
        quantize(model, rule)


def test_every_method_says_what_it_is() -> None:
    assert all((method.quantize_values.__doc__ or "").strip() for method in QUANTIZERS.values())

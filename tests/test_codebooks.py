"""k-means against the published optimum of known sources and the exact optimum of small ones."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinyvox.codebooks import CODEBOOKS, Quantiser, kmeans, nearest
from tinyvox.errors import ModelError
from tinyvox.matrix import Coded
from tinyvox.recipe import Method

EVERY = pytest.mark.parametrize("method", CODEBOOKS.values(), ids=CODEBOOKS)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def squared_error(values: Tensor, coded: Coded, weights: Tensor | None = None) -> float:
    error = (values - coded.decode()).double().square()
    return float((error if weights is None else error * weights).sum())


def relative(values: Tensor, coded: Coded) -> float:
    return squared_error(values, coded) / float(values.double().square().sum())


def same(a: Coded, b: Coded) -> bool:
    pairs = ((a.codes, b.codes), (a.codebook.centroids, b.codebook.centroids), (a.scale, b.scale))
    return all(torch.equal(x, y) for x, y in pairs)


def test_recipes_know_the_methods_that_there_are() -> None:
    assert get_args(Method) == tuple(CODEBOOKS)


# Error.


@pytest.mark.parametrize(
    ("bits", "error"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497), (5, 0.002499)]
)
def test_a_gaussian_is_coded_at_the_error_of_lloyd_and_max(bits: int, error: float) -> None:
    """Max, "Quantizing for minimum distortion", 1960, table I."""
    values = normal(128, 512)
    assert relative(values, kmeans(values, bits)) == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_uniform_source_loses_six_decibels_a_bit(bits: int) -> None:
    values = torch.rand(128, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert relative(values, kmeans(values, bits)) == pytest.approx(4.0**-bits, rel=0.02)


def optimum(values: Tensor, entries: int, weights: Tensor | None = None) -> float:
    """Squared error of the best codebook of one row, by dynamic programming over sorted values."""
    x, order = values.flatten().double().sort()
    w = torch.ones_like(x) if weights is None else weights.flatten().double()[order]
    parts = (w, w * x, w * x.square())
    mass, total, square = (torch.cat([torch.zeros(1).double(), p.cumsum(0)]) for p in parts)
    size = (mass[:, None] - mass).abs() + torch.eye(mass.numel())
    cost = square[:, None] - square - (total[:, None] - total).square() / size  # [end, start]
    cost[torch.ones_like(cost).triu(1).bool()] = torch.inf
    best = cost[:, 0]
    for _ in range(entries - 1):
        best = (cost + best).min(dim=1).values
    return float(best[-1])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(20, 300),
    bits=st.integers(1, 4),
    power=st.integers(1, 5),
    shift=st.floats(-4, 4),
    seed=st.integers(0, 1000),
)
def test_one_row_is_coded_at_the_exact_optimum(
    count: int, bits: int, power: int, shift: float, seed: int
) -> None:
    """Heavy tails and offsets included; what the histogram may cost is float16's precision."""
    values = normal(1, count, seed)
    values = values * values.abs() ** (power - 1) + shift
    best = optimum(values, 1 << bits)
    slack = 1e-6 * float(values.double().square().sum())
    assert 0.9999 * best - slack <= squared_error(values, kmeans(values, bits)) <= best + slack


def test_an_outlier_has_a_centroid_of_its_own() -> None:
    values = normal(1, 400)
    values[0, 7] = 300.0
    coded = kmeans(values, 4)
    assert int((coded.codes == coded.codes[0, 7]).sum()) == 1
    others = torch.arange(400) != 7
    assert relative(values[:, others], coded.take(columns=others)) < 0.013


def test_rows_of_any_size_are_coded_alike() -> None:
    values = normal(40, 600)
    values *= torch.logspace(-2, 2, 40)[:, None]
    coded = kmeans(values, 3)
    for row in range(40):
        part = coded.take(rows=torch.tensor([row]))
        assert relative(values[row : row + 1], part) < 0.05  # 0.0345 and the noise of one row


@pytest.mark.parametrize(("bits", "share"), [(2, 0.88), (3, 0.85), (4, 0.82)])
def test_fitting_scales_and_table_in_turn_beats_the_rms_of_the_rows(
    bits: int, share: float
) -> None:
    found = plain = 0.0
    for seed in range(5):
        values = normal(20, 30, seed)
        values = values * values.abs()
        rms = values.square().mean(1, keepdim=True).sqrt()
        found += squared_error(values, kmeans(values, bits))
        plain += optimum(values / rms, 1 << bits, rms.square().expand_as(values))
    assert found < share * plain


def test_more_bits_lose_less() -> None:
    values = normal(20, 100)
    errors = [relative(values, kmeans(values, bits)) for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


# Form.


@EVERY
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(2, 40),
    bits=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_codes_fit_the_bits_and_centroids_rise(
    method: Quantiser, rows: int, columns: int, bits: int, seed: int
) -> None:
    values = normal(rows, columns, seed)
    before = values.clone()
    coded = method(values, bits)
    assert isinstance(coded, Coded)
    assert coded.shape == (rows, columns)
    assert coded.bits <= bits
    assert (coded.codebook.centroids.diff() >= 0).all()
    assert torch.equal(coded.scale, coded.scale.half().float())
    assert torch.equal(values, before)
    assert relative(values, coded) <= 0.64  # 1 bit and one sign a row: 1 - 2 / pi for many values


@EVERY
def test_the_result_depends_on_the_arguments_alone(method: Quantiser) -> None:
    values = normal(30, 50)
    torch.manual_seed(1)
    first = method(values, 3)
    torch.manual_seed(2)
    second = method(values.clone(), 3)
    assert same(first, second)


@settings(max_examples=25, deadline=None)
@given(power=st.integers(-60, 60), seed=st.integers(0, 1000))
def test_a_power_of_two_scales_the_result_exactly(power: int, seed: int) -> None:
    values = normal(5, 40, seed)
    small, large = kmeans(values, 3), kmeans(values * 2.0**power, 3)
    assert torch.equal(large.decode(), small.decode() * 2.0**power)


# Few values and odd matrices.


@settings(max_examples=40, deadline=None)
@given(data=st.data(), bits=st.integers(1, 8))
def test_few_distinct_values_are_coded_without_loss(data: st.DataObject, bits: int) -> None:
    numbers = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
    levels = data.draw(st.lists(numbers, min_size=2, max_size=min(1 << bits, 40), unique=True))
    rows = data.draw(st.integers(1, 5))
    more = data.draw(st.lists(st.sampled_from(levels), min_size=rows, max_size=30))
    cut = (len(levels) + len(more)) // rows * rows
    values = torch.tensor((levels + more)[:cut]).view(rows, -1)
    if values.unique().numel() > 1:
        assert torch.equal(kmeans(values, bits).decode(), values)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 4), (4, 0)])
@EVERY
def test_zeros_and_nothing_are_coded_without_loss(
    method: Quantiser, shape: tuple[int, int]
) -> None:
    coded = method(torch.zeros(shape), 2)
    assert torch.equal(coded.decode(), torch.zeros(shape))


def test_a_row_of_zeros_stays_zero_among_others() -> None:
    values = normal(6, 50)
    values[2] = 0
    coded = kmeans(values, 2)
    assert float(coded.scale[2]) == 0
    assert torch.equal(coded.decode()[2], torch.zeros(50))
    assert relative(values, coded) < 0.14


def test_a_column_is_coded_by_its_row_scales() -> None:
    values = normal(200, 1)
    assert relative(values, kmeans(values, 1)) < 1e-6


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_sizes_far_from_one_lose_nothing_more(size: float) -> None:
    values = normal(40, 200)
    expected = relative(values, kmeans(values, 3))
    assert relative(values * size, kmeans(values * size, 3)) == pytest.approx(expected, rel=0.02)


# Weights.


@pytest.mark.parametrize("shape", [(), (40,), (1, 40), (6, 1), (6, 40)])
def test_weights_of_one_are_no_weights(shape: tuple[int, ...]) -> None:
    values = normal(6, 40)
    assert same(kmeans(values, 3, weights=torch.ones(shape)), kmeans(values, 3))


def test_values_of_weight_zero_do_not_count() -> None:
    values = normal(1, 300)
    weights = (torch.arange(300) < 100).float()
    coded = kmeans(values, 2, weights=weights)
    best = optimum(values[:, :100], 4)
    assert squared_error(values, coded, weights) == pytest.approx(best, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), bits=st.integers(1, 4), power=st.integers(1, 3))
def test_one_weighted_row_is_coded_at_the_exact_optimum(seed: int, bits: int, power: int) -> None:
    values, weights = normal(1, 150, seed), normal(1, 150, seed + 1).abs() ** power + 0.01
    found = squared_error(values, kmeans(values, bits, weights=weights), weights)
    assert found == pytest.approx(optimum(values, 1 << bits, weights), rel=1e-3)


def test_weights_of_zero_for_all_give_finite_values() -> None:
    coded = kmeans(normal(3, 50), 2, weights=torch.zeros(()))
    assert torch.isfinite(coded.decode()).all()


# Refusals.


@pytest.mark.parametrize(
    ("values", "bits", "weights", "message"),
    [
        (torch.zeros(4), 2, None, r"takes float32 \[out, in\], found torch.float32 \(4,\)"),
        (torch.zeros(2, 2).double(), 2, None, r"found torch.float64 \(2, 2\)"),
        (normal(2, 3), 0, None, "bits is 0, expected 1 to 8"),
        (normal(2, 3), 9, None, "bits is 9, expected 1 to 8"),
        (torch.tensor([[1.0, torch.nan]]), 2, None, "hold NaN or infinity; mend the source model"),
        (torch.tensor([[1.0, -torch.inf]]), 2, None, "hold NaN or infinity"),
        (normal(2, 3), 2, torch.ones(2), r"weights \(2,\) do not fit values \(2, 3\)"),
        (normal(2, 3), 2, torch.ones(3, 2), r"weights \(3, 2\) do not fit"),
        (normal(2, 3), 2, torch.ones(1, 2, 3), r"weights \(1, 2, 3\) do not fit"),
        (normal(2, 3), 2, torch.tensor([1.0, -1, 1]), "must be finite and zero or above"),
        (normal(2, 3), 2, torch.tensor([1.0, torch.nan, 1]), "must be finite and zero or above"),
    ],
)
@EVERY
def test_what_cannot_be_coded_is_refused(
    method: Quantiser, values: Tensor, bits: int, weights: Tensor | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        method(values, bits, weights=weights)


# The nearest centroid.


@settings(max_examples=50, deadline=None)
@given(
    centroids=st.lists(st.floats(-10, 10, width=16), min_size=2, max_size=20, unique=True),
    x=st.lists(st.floats(-12, 12, width=16), min_size=1, max_size=20),
)
def test_nearest_is_the_centroid_at_the_smallest_distance(
    centroids: list[float], x: list[float]
) -> None:
    table, values = torch.tensor(sorted(centroids)), torch.tensor(x)
    distance = (values[:, None] - table).abs()
    found = distance.gather(1, nearest(values, table)[:, None])[:, 0]
    assert torch.equal(found, distance.min(dim=1).values)


@pytest.mark.parametrize("value", [2.5, -2.5, 1e-4])
def test_a_single_value_keeps_its_sign(value: float) -> None:
    values = torch.full((3, 4), value)
    assert torch.equal(kmeans(values, 2).decode(), values)
    nearly = values + value * 1e-6 * torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(kmeans(nearly, 1).decode(), nearly, rtol=1e-3, atol=0)


def test_tiny_weights_do_not_spoil_the_table() -> None:
    weights = torch.ones(10)
    weights[9] = 1e-20
    coded = kmeans(torch.arange(10.0)[None], 3, weights=weights)
    assert torch.isfinite(coded.decode()).all()
    assert coded.codebook.centroids.unique().numel() == 8

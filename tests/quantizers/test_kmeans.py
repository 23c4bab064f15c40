"""k-means against the published optimum of known sources and the exact optimum of small ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_matrices import normal, relative, squared_error
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import Table
from tinyvox.quantizers import kmeans

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


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(2, 40),
    bits=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_centroids_rise_and_scales_are_float16(
    rows: int, columns: int, bits: int, seed: int
) -> None:
    values = normal(rows, columns, seed)
    coded = kmeans(values, bits)
    assert isinstance(coded.codebook, Table)
    assert (coded.codebook.centroids.diff() >= 0).all()
    assert torch.equal(coded.scale, coded.scale.half().float())
    assert relative(values, coded) <= 0.64  # 1 bit and one sign a row: 1 - 2 / pi for many values


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


# Weights.


def test_values_of_weight_zero_do_not_count() -> None:
    values = normal(1, 300)
    weights = (torch.arange(300) < 100).float()
    coded = kmeans(values, 2, error_weights=weights)
    best = optimum(values[:, :100], 4)
    assert squared_error(values, coded, weights) == pytest.approx(best, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), bits=st.integers(1, 4), power=st.integers(1, 3))
def test_one_weighted_row_is_coded_at_the_exact_optimum(seed: int, bits: int, power: int) -> None:
    values, weights = normal(1, 150, seed), normal(1, 150, seed + 1).abs() ** power + 0.01
    found = squared_error(values, kmeans(values, bits, error_weights=weights), weights)
    assert found == pytest.approx(optimum(values, 1 << bits, weights), rel=1e-3)


@pytest.mark.parametrize("value", [2.5, -2.5, 1e-4])
def test_a_single_value_keeps_its_sign(value: float) -> None:
    values = torch.full((3, 4), value)
    assert torch.equal(kmeans(values, 2).decode(), values)
    nearly = values + value * 1e-6 * torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(kmeans(nearly, 1).decode(), nearly, rtol=1e-3, atol=0)


def test_tiny_weights_do_not_spoil_the_table() -> None:
    weights = torch.ones(10)
    weights[9] = 1e-20
    coded = kmeans(torch.arange(10.0)[None], 3, error_weights=weights)
    assert torch.isfinite(coded.decode()).all()
    assert coded.codebook.centroids.unique().numel() == 8


# Tables of groups.


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 4), st.integers(0, 1000))
def test_each_group_of_rows_has_the_exact_optimum(
    groups: int, count: int, bits: int, seed: int
) -> None:
    """One row a group; groups of a different spread and place."""
    values = normal(groups, count + 20, seed) * torch.logspace(0, 2, groups)[:, None]
    values = values + torch.arange(groups)[:, None]
    coded = kmeans(values, bits, granularity=1)
    assert coded.row_groups == groups
    for row in range(groups):
        part = coded.take(rows=torch.tensor([row]))
        best = optimum(values[row], 1 << bits)
        slack = 1e-6 * float(values[row].double().square().sum())
        assert squared_error(values[row : row + 1], part) <= best + slack


@pytest.mark.parametrize("rows", [6, 7])
def test_groups_are_coded_as_matrices_of_their_own(rows: int) -> None:
    values, weights = normal(rows, 30), normal(rows, 30, 1).abs()
    coded = kmeans(values, 3, granularity=3, error_weights=weights)
    for start in range(0, rows, 3):
        part = slice(start, min(start + 3, rows))
        alone = kmeans(values[part], 3, error_weights=weights[part])
        assert torch.equal(coded.decode()[part], alone.decode())


def test_a_group_of_few_values_has_a_table_that_is_filled_up() -> None:
    values = normal(4, 30)
    values[:2] = values[:2].sign()
    coded = kmeans(values, 3, granularity=2)
    assert coded.codebook.entries == 8
    assert torch.equal(coded.decode()[:2], values[:2])


def test_groups_beat_one_table_where_they_differ() -> None:
    values = normal(40, 200)
    values[20:] = values[20:].sign() * (1 + 0.1 * values[20:])
    grouped = relative(values, kmeans(values, 2, granularity=20))
    assert grouped < 0.85 * relative(values, kmeans(values, 2))


def test_k_means_has_no_table_a_row() -> None:
    with pytest.raises(ModelError, match="a table for the matrix or for a number of rows"):
        kmeans(normal(3, 4), 2, granularity="row")


def test_many_zeros_stay_zero() -> None:
    values = normal(20, 50)
    values[normal(20, 50, 1) > -0.8] = 0
    coded = kmeans(values, 3, granularity=5)
    assert bool((coded.decode()[values == 0] == 0).all())
    assert coded.zero_codes() is not None

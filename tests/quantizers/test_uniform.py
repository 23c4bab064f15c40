"""Evenly spaced levels: within half a step, and as wide as loses least."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_matrices import normal, quantize_values, relative, squared_error
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.model import Coded, Grid
from tinyvox.quantizers import Granularity, asymmetric, omse, symmetric

HALF = 2.0**-11
"""What rounding to float16 may change of a scale."""
UNITS: list[Granularity] = ["tensor", "row", 2, 5, 100]
ROUNDED = 2.0**-22
"""What it may add to the error, relative to the values: its square."""


def heavy(rows: int, columns: int, power: int, seed: int) -> Tensor:
    values = normal(rows, columns, seed)
    return values * values.abs() ** (power - 1)


def outermost(bits: int) -> int:
    return max(1, (1 << bits - 1) - 1)


matrices = {
    "rows": st.integers(1, 8),
    "columns": st.integers(1, 40),
    "bits": st.integers(1, 8),
    "power": st.integers(1, 4),
    "unit": st.sampled_from(UNITS),
    "seed": st.integers(0, 1000),
}


# The whole range.


@settings(max_examples=60, deadline=None)
@given(**matrices)
def test_symmetric_levels_are_off_by_half_a_step_at_most(
    rows: int, columns: int, bits: int, power: int, unit: Granularity, seed: int
) -> None:
    """At 1 bit the two ends are two scales apart."""
    values = heavy(rows, columns, power, seed)
    coded = symmetric(values, bits, granularity=unit)
    step = coded.scale * (2 if bits == 1 else 1)
    error = (values - coded.decode()).abs()
    assert bool((error <= step[:, None] * (0.5 + HALF)).all())
    assert coded.codebook.entries == max(2, (1 << bits) - 1)


@settings(max_examples=60, deadline=None)
@given(shift=st.floats(-3, 3), **matrices)
def test_asymmetric_levels_are_off_by_half_a_step_at_most(
    rows: int, columns: int, bits: int, power: int, unit: Granularity, seed: int, shift: float
) -> None:
    """At the ends too, but for what the scale's rounding makes of so many steps."""
    values = heavy(rows, columns, power, seed) + shift
    coded = asymmetric(values, bits, granularity=unit)
    error = (values - coded.decode()).abs()
    assert bool((error <= coded.scale[:, None] * (0.5 + HALF * (1 << bits))).all())
    assert coded.codebook.entries == 1 << bits
    assert coded.zero_codes() is not None


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_step_is_the_range_over_the_steps(bits: int) -> None:
    values = torch.tensor([[-1.0, 0.25, 3.0], [2.0, 1.0, 0.5]])
    steps = torch.tensor([3.0, 2.0]) / outermost(bits)
    torch.testing.assert_close(symmetric(values, bits).scale, steps, rtol=HALF, atol=0)
    steps = torch.tensor([4.0, 2.0]) / ((1 << bits) - 1)
    coded = asymmetric(values, bits)
    torch.testing.assert_close(coded.scale, steps, rtol=HALF, atol=0)
    assert isinstance(coded.codebook, Grid)
    assert coded.codebook.zero.tolist() == [round(((1 << bits) - 1) / 4), 0]


def test_one_sided_rows_take_half_the_step_of_symmetric_ones() -> None:
    values = normal(20, 300).abs()
    ratio = relative(values, symmetric(values, 4)) / relative(values, asymmetric(values, 4))
    assert ratio == pytest.approx((15 / 7) ** 2, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(1, 100), st.integers(2, 8), st.integers(1, 60), st.integers(0, 1000), st.booleans()
)
def test_a_percentile_of_the_magnitudes_is_spanned_and_the_rest_clipped(
    percentile: float, bits: int, count: int, seed: int, positive: bool
) -> None:
    """Counted with itself: of 10 magnitudes, 90 percent is the ninth."""
    values = heavy(1, count, 2, seed)
    values = values.abs() if positive else values
    place = max(1, round(percentile / 100 * count))
    limit = float(values.abs().flatten().sort().values[place - 1])
    method, steps = (asymmetric, (1 << bits) - 1) if positive else (symmetric, outermost(bits))
    coded = method(values, bits, percentile=percentile)
    assert float(coded.scale[0]) == pytest.approx(limit / steps, rel=HALF)
    inside = values.abs() <= limit
    error = (values - coded.decode()).abs()
    assert bool((error[inside] <= coded.scale[0] * (0.5 + HALF * (1 << bits))).all())
    outer = coded.decode()[~inside]
    torch.testing.assert_close(outer, values[~inside].sign() * limit, rtol=2 * HALF, atol=0)


def test_all_of_them_is_the_percentile_of_100() -> None:
    values = normal(6, 50)
    for method in (symmetric, asymmetric):
        plain, all_of_them = method(values, 3), method(values, 3, percentile=100.0)
        assert torch.equal(plain.decode(), all_of_them.decode())


# The least error.


@settings(max_examples=30, deadline=None)
@given(**matrices)
def test_no_clip_of_a_dense_scan_loses_less(
    rows: int, columns: int, bits: int, power: int, unit: Granularity, seed: int
) -> None:
    """Per unit, that is per row of the same scale."""
    values = heavy(rows, columns, power, seed)
    coded = omse(values, bits, granularity=unit)
    size = {"tensor": rows, "row": 1}.get(str(unit)) or min(rows, int(unit))
    most = outermost(bits)
    for start in range(0, rows, size):
        part = values[start : start + size].double()
        found = (part - coded.decode()[start : start + size].double()).square().sum()
        steps = part.abs().max() / most * torch.linspace(0.005, 1, 400).double()[:, None, None]
        codes = (part / steps).round().clamp(-most, most)
        codes = torch.where(part >= 0, 1.0, -1.0) if bits == 1 else codes
        least = (part - codes * steps).square().sum((1, 2)).min()
        assert float(found) <= float(least) + ROUNDED * float(part.square().sum())


def best_of_all_steps(sizes: Tensor, most: int, weights: Tensor) -> float:
    """Between any two steps at which some size changes its code, with the step that fits best."""
    a, w = sizes.double(), weights.double()
    turns = {float(x) / (k - 0.5) for x in a if x > 0 for k in range(1, most + 1)}
    ends = sorted(turns | {0.5 * min(turns, default=0), 2 * max(turns, default=0)})
    best = float((w * a * a).sum())
    for low, high in itertools.pairwise(ends):
        codes = (a / ((low + high) / 2)).round().clamp(max=most)
        norm = float((w * codes * codes).sum())
        if norm > 0:
            gain = float((w * a * codes).sum()) ** 2 / norm
            best = min(best, float((w * a * a).sum()) - gain)
    return best


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 14),
    st.integers(2, 4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_small_row_is_coded_at_the_exact_optimum(
    count: int, bits: int, power: int, weighted: bool, seed: int
) -> None:
    values = heavy(1, count, power, seed)
    weights = normal(1, count, seed + 1).abs() if weighted else torch.ones(1, count)
    found = squared_error(values, omse(values, bits, error_weights=weights), weights)
    best = best_of_all_steps(values[0].abs(), outermost(bits), weights[0])
    slack = 2 * ROUNDED * float((weights * values.square()).double().sum())
    assert found <= best + slack


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_row_of_a_hundred_values_is_coded_at_the_exact_optimum(bits: int) -> None:
    for seed in range(5):
        values, weights = normal(1, 100, seed), normal(1, 100, seed + 100).square()
        found = squared_error(values, omse(values, bits, error_weights=weights), weights)
        best = best_of_all_steps(values[0].abs(), outermost(bits), weights[0])
        assert found == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("bits", "error"), [(1, 0.3634), (2, 0.1902), (3, 0.04686), (4, 0.01289), (5, 0.003693)]
)
def test_a_gaussian_is_coded_at_the_error_of_the_best_uniform_quantizer(
    bits: int, error: float
) -> None:
    """By numerical integration over odd numbers of levels: 3, 7, 15, 31 (1 bit: two)."""
    values = normal(64, 2048)
    assert relative(values, omse(values, bits)) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_least_error_loses_less_than_the_whole_range(bits: int) -> None:
    values = heavy(20, 200, 2, 0)
    assert relative(values, omse(values, bits)) < relative(values, symmetric(values, bits))


# What shares a scale.


@pytest.mark.parametrize("method", ["symmetric", "asymmetric", "omse"])
@pytest.mark.parametrize("size", [3, 4])
def test_groups_of_rows_are_coded_as_matrices_of_their_own(method: str, size: int) -> None:
    """The last group may be a smaller one."""
    values = normal(10, 30) * torch.logspace(-0.5, 0.5, 10)[:, None]
    coded = quantize_values(method, values, 4, granularity=size)
    assert coded.row_groups == -(-10 // size)
    assert coded.shares_scale
    for start in range(0, 10, size):
        alone = quantize_values(method, values[start : start + size], 4, granularity="tensor")
        assert torch.equal(coded.decode()[start : start + size], alone.decode())


@pytest.mark.parametrize("method", ["symmetric", "asymmetric", "omse"])
def test_finer_units_lose_less(method: str) -> None:
    values = normal(12, 60) * torch.logspace(-1, 1, 12)[:, None]
    errors = [
        squared_error(values, quantize_values(method, values, 3, granularity=unit))
        for unit in ("row", 3, 6, "tensor")
    ]
    assert errors == sorted(errors)


def scales(coded: Coded) -> int:
    return int(coded.scale.unique().numel())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("method", ["symmetric", "asymmetric", "omse"])
def test_as_many_scales_as_units(method: str) -> None:
    values = normal(12, 60)
    counts = [
        scales(quantize_values(method, values, 3, granularity=u)) for u in ("tensor", "row", 5, 99)
    ]
    assert counts == [1, 12, 3, 1]


@pytest.mark.parametrize("method", ["symmetric", "asymmetric", "omse", "kmeans"])
def test_more_than_256_groups_are_refused(method: str) -> None:
    message = "514 rows make 257 groups of 2, expected at most 256; take 3 rows a group"
    with pytest.raises(ModelError, match=message):
        quantize_values(method, normal(514, 3), 2, granularity=2)

"""Entropy-constrained codes: error at a rate against theory, and rates against real files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_matrices import normal, quantize_values, relative, same, squared_error
from small_models import chain
from torch import Tensor
from trellis_walk import walk

from tinyvox.errors import ModelError
from tinyvox.formats import tvx
from tinyvox.model import Coded, Grid, Table, layers
from tinyvox.quantizers import (
    choose,
    coded_bits,
    entropy,
    kmeans,
    price_codes,
    trellis,
    trimmed,
    widened,
)

EVERY = pytest.mark.parametrize("method", ["entropy", "trellis"])


def bits_in_file(coded: Coded, folder: Path) -> float:
    """All bits of the matrix's record, a weight."""
    tvx.save(chain(coded.shape[1], out=layers.Linear(coded)), folder / "m.tvx")
    rows = {row.name: row for row in tvx.sizes(folder / "m.tvx")}
    found = rows["out.weight"].bits_per_weight
    assert found is not None
    return found


def grid(coded: Coded) -> Grid:
    assert isinstance(coded.codebook, Grid)
    return coded.codebook


# Error at a rate.

PUBLISHED = {0.5: 2.10, 1.0: 4.64, 1.5: 7.55, 2.0: 10.55, 2.5: 13.57, 3.0: 16.56, 4.0: 22.55}
"""Decibels of the best entropy-coded scalar quantizer of a Gaussian: Noll and Zelinski, "Bounds on
quantizer performance in the low bit-rate region", 1978."""


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, float], tuple[Tensor, Coded]]:
    """A large Gaussian matrix by both methods at several rates."""
    values = normal(128, 1024)
    rates = {"entropy": (*PUBLISHED, 5.0), "trellis": (0.5, 1.0, 2.0, 3.0, 4.0)}
    return {
        (method, bits): (values, quantize_values(method, values, bits))
        for method, all_bits in rates.items()
        for bits in all_bits
    }


Found = dict[tuple[str, float], tuple[Tensor, Coded]]


@pytest.mark.parametrize("bits", PUBLISHED)
def test_a_gaussian_is_coded_within_three_percent_of_the_published_bound(
    bits: float, found: Found
) -> None:
    """And no better than the bound, nor than 2^-2R by any method."""
    error = relative(*found["entropy", bits])
    published = 10 ** (-PUBLISHED[bits] / 10)
    assert 0.99 * published < error < 1.03 * published
    for method, rate in found:
        assert relative(*found[method, rate]) > 2 ** (-2 * rate)


@pytest.mark.parametrize("bits", [2.0, 3.0, 4.0, 5.0])
def test_a_gaussian_is_coded_near_the_bound_of_high_rates(bits: float, found: Found) -> None:
    """Gish and Pierce, "Asymptotically efficient quantizing", 1968: pi e / 6 times 2^-2R."""
    bound = math.pi * math.e / 6 * 2 ** (-2 * bits)
    assert relative(*found["entropy", bits]) < 1.06 * bound


@pytest.mark.parametrize(("bits", "share"), [(0.5, 0.98), (1.0, 0.9), (2.0, 0.85), (3.0, 0.85),
                                             (4.0, 0.85)])  # fmt: skip
def test_a_trellis_comes_closer_at_the_same_bits(bits: float, share: float, found: Found) -> None:
    assert relative(*found["trellis", bits]) < share * relative(*found["entropy", bits])


# Rates.


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.0, 3.0, 4.0])
@EVERY
def test_a_file_takes_the_bits_asked_for(
    method: str, bits: float, found: Found, tmp_path: Path
) -> None:
    _, coded = found[method, bits]
    assert 0.99 * bits <= bits_in_file(coded, tmp_path) <= 1.01 * bits
    assert coded_bits(coded) <= bits


@pytest.mark.parametrize("bits", [0.1, 0.5, 1, 2])
@EVERY
def test_a_laplacian_of_rows_of_many_sizes_takes_the_bits_too(
    method: str, bits: float, tmp_path: Path
) -> None:
    values = normal(128, 512) * normal(128, 512, 1)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    coded = quantize_values(method, values * torch.logspace(-1, 1, 128)[order, None], bits)
    assert coded.row_groups > 1
    assert 0.97 * bits <= bits_in_file(coded, tmp_path) <= 1.01 * bits


def test_eight_bits_end_where_255_levels_do(tmp_path: Path) -> None:
    values = normal(64, 256)
    coded = entropy(values, 8)
    assert 6 < bits_in_file(coded, tmp_path) <= 8
    assert relative(values, coded) < 1e-3


@EVERY
def test_more_bits_lose_less(method: str) -> None:
    values = normal(64, 128)
    errors = [
        relative(values, quantize_values(method, values, bits)) for bits in (0.3, 0.5, 1, 2, 3, 4)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (8, 30)])
@pytest.mark.parametrize("bits", [2, 4])
@EVERY
def test_a_small_matrix_is_not_lost(method: str, bits: int, shape: tuple[int, int]) -> None:
    """What tables and states take may be more than all bits asked for; 0.64 is that of one bit."""
    values = normal(*shape)
    assert relative(values, quantize_values(method, values, bits)) < 0.64


@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (4, 4)])
@pytest.mark.parametrize("bits", [0.05, 1, 2])
@EVERY
def test_the_smallest_matrices_are_coded(method: str, bits: float, shape: tuple[int, int]) -> None:
    coded = quantize_values(method, normal(*shape), bits)
    assert bool(torch.isfinite(coded.decode()).all())


# Choices.


def by_steps(coded: Coded, values: Tensor) -> Tensor:
    return values / coded.scale[:, None]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.5, 1.5, 3.0]))
def test_codes_minimize_error_plus_price(seed: int, bits: float) -> None:
    """No other level would do better; weights are those of the errors."""
    values, weights = normal(16, 300, seed), normal(16, 300, seed + 1).square()
    coded = widened(entropy(values, bits))
    prices = price_codes(coded)
    codes = choose(coded, values, prices, weights)
    steps = by_steps(coded, values)[:, :, None]
    group = torch.zeros(16, dtype=torch.long) if coded.row_group is None else coded.row_group.long()
    relative_scale = (coded.scale / coded.scale.max()).square()[:, None, None]
    levels = torch.arange(255) - 127.0
    cost = relative_scale * weights[:, :, None] * (steps - levels).square()
    cost = cost + torch.from_numpy(prices)[group][:, None]
    mine = cost.gather(2, codes.long()[:, :, None])[:, :, 0]
    near = cost.gather(2, (steps.round().long() + torch.tensor([126, 127, 128])).clamp(0, 254))
    assert bool((mine <= near.min(dim=2).values + 1e-5).all())
    assert bool((mine <= cost[:, :, 127] + 1e-5).all())


@pytest.mark.parametrize("bits", [0.5, 2.0])
def test_codes_of_a_trellis_follow_it(bits: float, found: Found) -> None:
    _, coded = found["trellis", bits]
    book = grid(coded)
    assert book.trellis
    codes = coded.codes.numpy()
    for column in range(0, 1024, 50):
        assert walk(codes[:, column], book.entries, int(book.zero[0])) is not None


def test_the_outermost_levels_are_used_and_zero_is_there(found: Found) -> None:
    for _, coded in found.values():
        zero = int(grid(coded).zero[0])
        assert coded.codes.min() == 0 or zero == 0
        assert coded.codes.max() == grid(coded).entries - 1 or zero + 2 == grid(coded).entries


@EVERY
def test_wide_and_trimmed_are_the_same_matrix(method: str) -> None:
    coded = quantize_values(method, normal(32, 64), 2)
    wide = widened(coded)
    assert grid(wide).entries == 255
    assert torch.equal(wide.decode(), coded.decode())
    assert same(trimmed(wide), coded)


def test_rows_of_one_size_make_no_groups() -> None:
    assert entropy(normal(64, 256), 2).row_group is None


@EVERY
def test_a_scale_is_that_of_least_squares(method: str) -> None:
    values, weights = normal(64, 128), normal(64, 128, 1).square()
    coded = quantize_values(method, values, 1, error_weights=weights)
    error = squared_error(values, coded, weights)
    for factor in (0.99, 1.01):
        changed = Coded(coded.codes, coded.codebook, coded.scale * factor, coded.row_group)
        assert squared_error(values, changed, weights) > error


@EVERY
def test_weights_move_error_to_where_it_counts_less(method: str) -> None:
    values, weights = normal(64, 128), torch.logspace(-1, 1, 128)[None]
    plain, weighed = (
        quantize_values(method, values, 2),
        quantize_values(method, values, 2, error_weights=weights),
    )
    assert squared_error(values, weighed, weights) < 0.95 * squared_error(values, plain, weights)


@EVERY
def test_sparse_values_cost_little(method: str, tmp_path: Path) -> None:
    """Zeros stay zero, and their bits go to the others."""
    values = normal(128, 256)
    values[normal(128, 256, 1).abs() > 0.25] = 0
    coded = quantize_values(method, values, 1)
    assert bool((coded.decode()[values == 0] == 0).all())
    full = normal(128, 256)
    assert relative(values, coded) < 0.7 * relative(full, quantize_values(method, full, 1))
    assert bits_in_file(coded, tmp_path) <= 1.01


@EVERY
def test_few_values_are_a_table_without_loss(method: str) -> None:
    values = normal(20, 30).sign() * 0.3
    coded = quantize_values(method, values, 1)
    assert isinstance(coded.codebook, Table)
    assert torch.equal(coded.decode(), values)


@pytest.mark.parametrize(
    ("method", "bits"), [("entropy", 0.04), ("entropy", 8.1), ("trellis", 0.0), ("trellis", 5.1)]
)
def test_bits_out_of_range_are_refused(method: str, bits: float) -> None:
    most = 8 if method == "entropy" else 5
    with pytest.raises(ModelError, match=rf"bits is {bits}, expected 0.05 to {most}"):
        quantize_values(method, normal(4, 5), bits)


def test_nan_bits_are_refused() -> None:
    for method in (entropy, trellis):
        with pytest.raises(ModelError, match="bits is nan"):
            method(normal(4, 5), math.nan)


def test_values_far_out_do_not_take_the_levels_of_all_others() -> None:
    """One value in a thousand is eighty times larger: evenly spaced levels leave few for others."""
    values = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    values[::16, 7] = 80.0
    coded, other = entropy(values, 6.0), kmeans(values, 6)
    rest = values.abs() < 10

    def error(found: Coded) -> float:
        return float((found.decode() - values)[rest].square().sum() / values[rest].square().sum())

    assert error(coded) <= 1.01 * error(other)
    assert error(coded) < 2e-3


# Importance of rows.


@pytest.mark.parametrize("bits", [2.0, 4.0])
def test_a_few_rows_of_extreme_importance_do_not_hide_the_others(bits: float) -> None:
    values, importance = normal(96, 512), torch.ones(96)
    importance[:2], importance[2:48] = 1e5, 100.0
    coded = entropy(values, bits, importance=importance)
    assert coded_bits(coded) <= bits
    errors = (coded.decode() - values).square().mean(1)
    assert float(errors[2:48].mean()) < 0.05 * float(errors[48:].mean())


@pytest.mark.parametrize("bits", [3.0, 4.0, 6.5])
def test_the_outermost_level_reaches_the_values_of_important_rows(bits: float) -> None:
    values, importance = normal(96, 512), torch.ones(96)
    values[:48] *= 4
    importance[:48] = 1e4
    decoded = entropy(values, bits, importance=importance).decode()
    most, reached = (each[:48].abs().amax(1) for each in (values, decoded))
    assert bool((reached > 0.9 * most).all())
    errors = (decoded - values).square().mean(1)
    assert bits == 6.5 or float(errors[:48].mean()) < 0.1 * float(errors[48:].mean())

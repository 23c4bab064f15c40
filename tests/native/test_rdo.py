"""Codes chosen by error and price: against all choices, and along the trellis."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trellis_walk import levels_of, moved, walk

from tinyvox import _native

pytestmark = pytest.mark.runtime

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
ONE = np.empty(0, np.uint8)


def chosen(
    values: Floats, weights: Floats, cost: Floats, group: Codes, zero: int, trellis: bool
) -> Codes:
    """All [columns, rows]."""
    codes = np.zeros(values.shape, np.uint8)
    _native.choose_codes(values, weights, codes, cost, group, zero, trellis)
    return codes


def path_cost(
    column: list[int], values: Floats, weights: Floats, cost: Floats, group: Codes, zero: int
) -> float:
    """Of a path, state by state; infinite for one that the trellis has not."""
    state, total = 0, 0.0
    for row, code in enumerate(column):
        bits = levels_of(state, cost.shape[1], zero)
        if code not in bits:
            return np.inf
        model = 2 * int(group[row]) + state % 2
        error = float(values[row]) - (code - zero)
        total += float(weights[row]) * error * error + float(cost[model, code])
        state = moved(state, bits[code])
    return total


Problem = tuple[Floats, Floats, Floats, Codes, int]
problems = {
    "entries": st.integers(2, 7),
    "rows": st.integers(1, 6),
    "groups": st.integers(1, 2),
    "seed": st.integers(0, 10_000),
}


def usual(entries: int, rows: int, groups: int, seed: int, trellis: bool) -> Problem:
    """An odd number of levels, prices that rise alike on both sides of zero, weights around 1."""
    rng = np.random.default_rng(seed)
    entries += 1 - entries % 2
    zero = entries // 2
    values = (rng.standard_normal(rows) * entries / 2).astype(np.float32)
    weights = rng.uniform(0.5, 2, rows).astype(np.float32)
    rise = np.sort(rng.uniform(0, 0.5, (groups * (1 + trellis), zero + 1)), axis=1)
    cost = rise[:, np.abs(np.arange(entries) - zero)].astype(np.float32)
    return values, weights, cost, rng.integers(0, groups, rows, dtype=np.uint8), zero


def wild(entries: int, rows: int, groups: int, seed: int, trellis: bool) -> Problem:
    """Prices without order, any zero, weights of all sizes."""
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(rows) * entries / 2).astype(np.float32)
    weights = np.exp(rng.standard_normal(rows) * 2).astype(np.float32)
    cost = rng.uniform(0, 2, (groups * (1 + trellis), entries)).astype(np.float32)
    zero = int(rng.integers(entries))
    return values, weights, cost, rng.integers(0, groups, rows, dtype=np.uint8), zero


MAKES = pytest.mark.parametrize("make", [usual, wild])


@MAKES
@settings(max_examples=60, deadline=None)
@given(**problems)
def test_one_code_at_a_time_is_the_best_of_all(
    make: Callable[..., Problem], entries: int, rows: int, groups: int, seed: int
) -> None:
    values, weights, cost, group, zero = make(entries, rows, groups, seed, False)
    codes = chosen(values[None], weights[None], cost, group, zero, False)[0]
    levels = np.arange(cost.shape[1]) - zero
    total = weights[:, None] * (values[:, None] - levels) ** 2 + cost[group]
    np.testing.assert_allclose(total[np.arange(rows), codes], total.min(axis=1), rtol=1e-5)


@pytest.mark.parametrize("spread", [0.3, 3.0, 60.0])
@pytest.mark.parametrize("weight", [1.0, 0.03])
def test_many_values_of_one_weight_get_the_codes_that_a_few_get(
    spread: float, weight: float
) -> None:
    """A table serves many values; among them are ends of bins, and values outside it."""
    rng = np.random.default_rng(0)
    values = (rng.laplace(size=(4, 6000)) * spread).astype(np.float32)
    values[1] = np.round(values[1] * 64) / 64
    values[2, :3] = np.nan, np.inf, -np.inf
    weights = np.full_like(values, weight)
    share = np.exp(-np.abs(np.arange(255) - 127) / np.array([[spread], [2 * spread]])) + 1e-6
    cost = (-0.1 * np.log2(share / share.sum(1, keepdims=True))).astype(np.float32)
    group = rng.integers(0, 2, 6000, dtype=np.uint8)
    group[::500] = 1
    whole = chosen(values, weights, cost, group, 127, False)
    for start in range(0, 6000, 200):
        some = slice(start, start + 200)
        few = (np.ascontiguousarray(each[:, some]) for each in (values, weights))
        codes = chosen(*few, cost, group[some], 127, False)
        np.testing.assert_array_equal(whole[:, some], codes)


@MAKES
@settings(max_examples=60, deadline=None)
@given(**problems)
def test_a_path_is_the_best_of_all_that_the_trellis_has(
    make: Callable[..., Problem], entries: int, rows: int, groups: int, seed: int
) -> None:
    rows = min(rows, 4 if entries > 5 else 6)
    values, weights, cost, group, zero = make(entries, rows, groups, seed, True)
    codes = chosen(values[None], weights[None], cost, group, zero, True)[0]
    paths = itertools.product(range(cost.shape[1]), repeat=rows)
    least = min(path_cost(list(p), values, weights, cost, group, zero) for p in paths)
    found = path_cost(codes.tolist(), values, weights, cost, group, zero)
    assert found == pytest.approx(least, rel=1e-5, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 255),
    st.integers(0, 60),
    st.integers(0, 6),
    st.floats(0.01, 200),
    st.integers(0, 10_000),
)
def test_chosen_codes_follow_the_trellis(
    entries: int, rows: int, columns: int, width: float, seed: int
) -> None:
    """Whatever the values and prices, those far outside the grid and without order included."""
    rng = np.random.default_rng(seed)
    zero = int(rng.integers(entries))
    values = (rng.standard_normal((columns, rows)) * width).astype(np.float32)
    weights = rng.uniform(0, 3, (columns, rows)).astype(np.float32)
    cost = rng.uniform(0, 9, (2, entries)).astype(np.float32)
    for column in chosen(values, weights, cost, ONE, zero, True):
        assert walk(column, entries, zero) is not None


def test_every_column_starts_anew() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 40)).astype(np.float32) * 3
    weights, cost = np.ones_like(values), np.zeros((2, 15), np.float32)
    together = chosen(values, weights, cost, ONE, 7, True)
    for i in range(5):
        alone = chosen(values[i : i + 1], weights[i : i + 1], cost, ONE, 7, True)
        np.testing.assert_array_equal(alone[0], together[i])


def test_a_long_column_keeps_its_digits() -> None:
    """Costs of 30000 rows of the same values are as good at the end as at the start."""
    tile = np.random.default_rng(0).standard_normal(100).astype(np.float32) * 3
    values = np.tile(tile, 300)[None]
    cost = np.zeros((2, 15), np.float32)
    codes = chosen(values, np.full_like(values, 100), cost, ONE, 7, True)[0]
    error = ((values[0] - (codes.astype(int) - 7)) ** 2).reshape(300, 100).mean(axis=1)
    assert error[-10:].mean() == pytest.approx(error[:10].mean(), rel=0.05)


def test_a_free_trellis_comes_closer_than_its_coarse_quantizer() -> None:
    """Marcellin and Fischer, 1990, table II: at 8 states about 1 dB below 1/12 of the square of
    twice the step."""
    values = np.random.default_rng(0).uniform(-50, 50, (4, 4000)).astype(np.float32)
    cost = np.zeros((2, 127), np.float32)
    codes = chosen(values, np.ones_like(values), cost, ONE, 63, True)
    error = ((values - (codes.astype(int) - 63)) ** 2).mean()
    assert 10 * np.log10(4 / 12 / error) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("size", [100.0, 1e4])
@pytest.mark.parametrize("trellis", [False, True])
def test_values_beyond_the_grid_take_its_ends(trellis: bool, size: float) -> None:
    values = np.array([[size, -size, size, -size, size]], np.float32)
    weights, cost = np.full_like(values, 1e-9), np.zeros((2, 15), np.float32)
    codes = chosen(values, weights, cost, ONE, 7, trellis)[0]
    assert bool((np.abs(codes.astype(int) - 7) >= (4 if trellis else 7)).all())
    assert bool((np.sign(codes.astype(int) - 7) == np.sign(values[0])).all())


@pytest.mark.parametrize(
    ("cost", "group", "zero", "trellis", "rows", "message"),
    [
        ((1, 257), [], 0, False, 3, "entries are 1 to 256"),
        ((1, 4), [], 4, False, 3, "zero is one of them"),
        ((1, 4), [0, 0], 0, False, 3, "one group a row, or none"),
        ((1, 4), [0, 1, 0], 0, False, 3, "costs for every model"),
        ((1, 4), [], 0, True, 3, "costs for every model"),
        ((3, 4), [0, 1, 0], 0, True, 3, "costs for every model"),
        ((1, 4), [], 0, False, 2, "as many codes and weights as values"),
    ],
)
def test_what_does_not_fit_is_refused(
    cost: tuple[int, int], group: list[int], zero: int, trellis: bool, rows: int, message: str
) -> None:
    values, codes = np.zeros((2, 3), np.float32), np.zeros((2, rows), np.uint8)
    arrays = np.zeros(cost, np.float32), np.array(group, np.uint8)
    with pytest.raises(ValueError, match=message):
        _native.choose_codes(values, values, codes, *arrays, zero, trellis)

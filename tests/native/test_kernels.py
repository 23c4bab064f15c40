"""Every instruction set against the scalar reference, and the reference against numpy."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import all_cases

from tinyvox import _native

pytestmark = pytest.mark.runtime

ISAS = _native.isas()
SIZES = [(1, 1), (3, 7), (5, 33), (8, 8), (7, 97), (33, 130), (130, 512)]
FRAMES = [1, 2, 4, 7, 16, 21]

isas = pytest.mark.parametrize("isa", ISAS)


def coded(rows: int, columns: int, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * 1000 + columns + entries)
    codes = rng.integers(0, entries, (rows, columns), dtype=np.uint8)
    centroids = np.sort(rng.standard_normal(entries)).astype(np.float32)
    return codes, centroids[None], rng.uniform(0.1, 2, rows).astype(np.float32)


def frames_of(frames: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(frames * 77 + columns)
    return rng.standard_normal((frames, columns)).astype(np.float32)


def test_scalar_is_always_there_and_last() -> None:
    assert ISAS[-1] == "scalar"


@isas
def test_coded_products_are_the_same_to_the_last_bit(isa: str) -> None:
    grid = itertools.product(SIZES, [2, 3, 4, 8, 16, 17, 64, 256], FRAMES)
    with all_cases() as case:
        for (rows, columns), entries, frames in grid:
            matrix, x = coded(rows, columns, entries), frames_of(frames, columns)
            expected = _native.multiply_coded("scalar", *matrix, x)
            with case(rows=rows, columns=columns, entries=entries, frames=frames):
                np.testing.assert_array_equal(_native.multiply_coded(isa, *matrix, x), expected)


def expect_within_int8(
    found: np.ndarray, x: np.ndarray, weights: np.ndarray, dw: np.ndarray
) -> None:
    """Each factor is off by half a step at most: |w| dx + |x| dw + dw dx, summed over columns.
    `dw` is half a step of the weights, a row."""
    dx = np.abs(x).max(axis=1) / 127 / 2
    bound = (
        np.abs(weights).sum(axis=1)[None] * dx[:, None]
        + np.abs(x).sum(axis=1)[:, None] * dw[None]
        + x.shape[1] * dw[None] * dx[:, None]
    )
    assert (np.abs(found - x @ weights.T) <= bound * 1.001 + 1e-5).all()


@isas
def test_coded_products_lie_within_the_bound_of_int8(isa: str) -> None:
    with all_cases() as case:
        for (rows, columns), entries in itertools.product(SIZES, [2, 8, 9, 16, 256]):
            codes, centroids, scale = coded(rows, columns, entries)
            x = frames_of(5, columns)
            weights = centroids[0][codes] * scale[:, None]
            levels = 20 if entries <= 8 else 41 if entries <= 16 else 127
            dw = np.abs(centroids).max() / levels / 2 * scale
            found = _native.multiply_coded(isa, codes, centroids, scale, x)
            with case(rows=rows, columns=columns, entries=entries):
                expect_within_int8(found, x, weights, dw)


def by_row(rows: int, columns: int, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A table for each row."""
    codes, _, scale = coded(rows, columns, entries)
    rng = np.random.default_rng(entries)
    return codes, rng.standard_normal((rows, entries)).astype(np.float32), scale


@isas
def test_products_by_tables_of_rows_are_the_same_to_the_last_bit(isa: str) -> None:
    """And to those of the row alone, where that is held as 8 bits too."""
    grid = itertools.product(SIZES, [2, 3, 4, 8, 16, 256], FRAMES[::2])
    with all_cases() as case:
        for (rows, columns), entries, frames in grid:
            matrix, x = by_row(rows, columns, entries), frames_of(frames, columns)
            found = _native.multiply_coded(isa, *matrix, x)
            with case(rows=rows, columns=columns, entries=entries, frames=frames):
                np.testing.assert_array_equal(found, _native.multiply_coded("scalar", *matrix, x))
                if entries == 256:
                    alone = [
                        _native.multiply_coded(isa, *(part[i : i + 1] for part in matrix), x)
                        for i in range(rows)
                    ]
                    np.testing.assert_array_equal(found, np.concatenate(alone, axis=1))


@isas
def test_products_by_tables_of_rows_lie_within_the_bound_of_int8(isa: str) -> None:
    with all_cases() as case:
        for rows, columns in SIZES:
            codes, levels, scale = by_row(rows, columns, 16)
            x = frames_of(5, columns)
            weights = np.take_along_axis(levels, codes.astype(int), axis=1) * scale[:, None]
            dw = np.abs(levels).max(axis=1) / 127 / 2 * scale
            found = _native.multiply_coded(isa, codes, levels, scale, x)
            with case(rows=rows, columns=columns):
                expect_within_int8(found, x, weights, dw)


@isas
@pytest.mark.parametrize("exponent", [-145, -110, 100, 120])
def test_the_magnitude_of_a_table_does_not_matter(isa: str, exponent: int) -> None:
    """Times a power of two, as far as to subnormal centroids: only what these cannot hold differs,
    and by the same bits on every set."""
    x = frames_of(3, 33)
    with all_cases() as case:
        for entries in (2, 4, 8, 16, 17, 64, 256):
            codes, levels, scale = coded(9, 33, entries)
            moved = np.ldexp(levels / np.abs(levels).max(), exponent).astype(np.float32)
            still = np.ldexp(moved.astype(np.float64), -exponent).astype(np.float32)
            small = np.ldexp(scale, -exponent if exponent > 0 else 0)
            expected = _native.multiply_coded("scalar", codes, still, scale, x)
            found = _native.multiply_coded(isa, codes, moved, small, x)
            with case(entries=entries):
                if exponent < 0:
                    expected = np.ldexp(expected, exponent)
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-40)
                np.testing.assert_array_equal(
                    found, _native.multiply_coded("scalar", codes, moved, small, x)
                )


@isas
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
def test_a_frame_that_is_not_finite_becomes_zeros(isa: str, value: float) -> None:
    with all_cases() as case:
        for columns in (1, 7, 33, 130):
            x = frames_of(1, columns)[0]
            x[columns // 2] = value
            values, scale, total = _native.quantize_i8(isa, x)
            with case(columns=columns):
                assert not values.any()
                assert (scale, total) == (0, 0)


@isas
def test_evenly_spaced_levels_of_any_number_are_the_same_to_the_last_bit(isa: str) -> None:
    x = frames_of(3, 33)
    with all_cases() as case:
        for entries in range(2, 256):
            codes, _, scale = coded(9, 33, entries)
            levels = (np.arange(entries) - entries // 2).astype(np.float32)[None]
            expected = _native.multiply_coded("scalar", codes, levels, scale, x)
            found = _native.multiply_coded(isa, codes, levels, scale, x)
            with case(entries=entries):
                np.testing.assert_array_equal(found, expected)


def few_strays(rows: int, columns: int, entries: int, rare: float) -> np.ndarray:
    """Codes of which most lie within 16 of the middle, on either side, and some anywhere."""
    rng = np.random.default_rng(rows + columns + entries)
    common = entries // 2 - 8 + rng.integers(0, 16, (rows, columns))
    anywhere = rng.integers(0, entries, (rows, columns))
    return np.where(rng.random((rows, columns)) < rare, anywhere, common).astype(np.uint8)


@isas
def test_codes_of_which_few_are_rare_are_the_same_to_the_last_bit(isa: str) -> None:
    """Of grids and of tables, in 4 bits and in bytes of as many bits as they need."""
    sizes = [(1, 1), (7, 97), (33, 130), (521, 505)]  # only of large ones the rare are listed
    grid = itertools.product(sizes, [17, 40, 64, 100, 128, 255])
    with all_cases() as case:
        for (rows, columns), entries in grid:
            scale = coded(rows, columns, entries)[2]
            steps = (np.arange(entries) - entries // 2).astype(np.float32)[None]
            x = frames_of(21 if rows < 521 else 6, columns)
            for rare in (0, 0.003, 0.05):
                codes = few_strays(rows, columns, entries, rare)
                for levels in (steps, steps * 0.37):
                    found = _native.multiply_coded(isa, codes, levels, scale, x)
                    expected = _native.multiply_coded("scalar", codes, levels, scale, x)
                    weights = levels[0][codes].astype(np.float64) * scale[:, None]
                    with case(rows=rows, columns=columns, entries=entries, rare=rare):
                        np.testing.assert_array_equal(found, expected)
                        expect_within_int8(found, x, weights, np.abs(levels).max() / 254 * scale)


@isas
@pytest.mark.parametrize("entries", [8, 16, 256])
def test_the_largest_integers_do_not_overflow(isa: str, entries: int) -> None:
    """Every product at its largest, over as many columns as a kernel takes."""
    columns = 131072
    centroids = np.full((1, entries), 1.0, np.float32)
    codes = np.zeros((2, columns), np.uint8)
    x = np.ones((1, columns), np.float32)
    for sign in (1.0, -1.0):
        y = _native.multiply_coded(isa, codes, sign * centroids, np.ones(2, np.float32), x)
        np.testing.assert_allclose(y, sign * columns, rtol=1e-6)


@isas
def test_more_columns_than_an_int32_can_sum_are_multiplied_in_float(isa: str) -> None:
    codes, centroids, scale = coded(2, 131073, 4)
    x = frames_of(1, 131073)
    expected = x.astype(np.float64) @ (centroids[0][codes] * scale[:, None]).T.astype(np.float64)
    y = _native.multiply_coded(isa, codes, centroids, scale, x)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-2)


@isas
def test_dense_products_are_within_rounding_of_the_exact_sum(isa: str) -> None:
    with all_cases() as case:
        for (rows, columns), frames in itertools.product(SIZES, FRAMES):
            weights = frames_of(rows + 100, columns)[:rows].copy()
            x = frames_of(frames, columns)
            exact = x.astype(np.float64) @ weights.T.astype(np.float64)
            # Higham: |error| <= n u / (1 - n u) * sum |w x|
            bound = columns * 2.0**-24 * 1.01 * (np.abs(x) @ np.abs(weights.T)) + 1e-12
            with case(rows=rows, columns=columns, frames=frames):
                assert (np.abs(_native.multiply_dense(isa, weights, x) - exact) <= bound).all()


@isas
def test_a_frame_gives_the_same_alone_and_among_others(isa: str) -> None:
    weights, x = frames_of(37, 101), frames_of(16, 101)
    together = _native.multiply_dense(isa, weights, x)
    for i in range(len(x)):
        alone = _native.multiply_dense(isa, weights, x[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])


@isas
@pytest.mark.parametrize("size", [1, 7, 64, 97, 512])
def test_quantization_rounds_to_the_nearest_of_255_levels(isa: str, size: int) -> None:
    x = frames_of(1, size)[0]
    values, scale, total = _native.quantize_i8(isa, x)
    assert scale == np.abs(x).max() / np.float32(127)
    np.testing.assert_array_equal(values[:size], np.rint(x * (np.float32(127) / np.abs(x).max())))
    assert (values[size:] == 0).all()
    assert total == values.astype(int).sum()


@isas
@pytest.mark.parametrize("value", [0.0, 1e-40, np.nan, np.inf])
def test_quantization_takes_any_value(isa: str, value: float) -> None:
    values, _, _ = _native.quantize_i8(isa, np.full(40, value, np.float32))
    assert len(values) == 64
    if not np.isnan(value) and not np.isinf(value):
        assert (values == 0).all()


SPREAD = np.concatenate(
    [np.linspace(-30, 30, 4001), [-1e30, -200, -88, 0, -0.0, 1e-20, 88, 200, 1e30]]
).astype(np.float32)


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "log_softmax"])
@isas
def test_elementwise_functions_are_the_same_to_the_last_bit(isa: str, function: str) -> None:
    x = SPREAD[:4001]
    np.testing.assert_array_equal(
        _native.elementwise(isa, function, x), _native.elementwise("scalar", function, x)
    )


@pytest.mark.parametrize(("function", "bound"), [("sigmoid", 2e-7), ("tanh", 2e-7)])
@isas
def test_gates_agree_with_torch(isa: str, function: str, bound: float) -> None:
    expected = getattr(torch, function)(torch.from_numpy(SPREAD).double()).numpy()
    assert np.abs(_native.elementwise(isa, function, SPREAD) - expected).max() < bound


@pytest.mark.parametrize("size", [1, 2, 28, 1000])
@isas
def test_log_softmax_agrees_with_torch(isa: str, size: int) -> None:
    x = frames_of(1, size)[0] * 10
    expected = torch.log_softmax(torch.from_numpy(x).double(), 0).numpy()
    np.testing.assert_allclose(
        _native.elementwise(isa, "log_softmax", x), expected, rtol=1e-6, atol=3e-6
    )


def test_the_native_test_finds_no_difference(native_build: Path) -> None:
    """More shapes, shares of threads, and cells; test_arm.py runs it on other processors."""
    result = subprocess.run([native_build / "test_kernels"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[0].rstrip(":") for line in result.stdout.splitlines()] == ISAS

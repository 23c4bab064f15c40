"""The entropy coder: exact, close to the entropy, and safe on any bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tinyvox import _native

Codes = NDArray[np.uint8]


def bell(entries: int, count: int, width: float = 0.15) -> Codes:
    """Codes as a quantiser makes them of weights: most of them in the middle of the table."""
    values = np.random.default_rng(entries).normal(entries / 2, entries * width, count)
    return np.clip(np.round(values), 0, entries - 1).astype(np.uint8)


def entropy_bytes(codes: Codes) -> float:
    counts = np.bincount(codes)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / codes.size)).sum() / 8)


@given(st.integers(1, 256), st.integers(0, 300), st.integers(0, 1 << 32))
def test_codes_come_back(entries: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    used = generator.integers(1, entries + 1)
    codes = generator.integers(0, used, count, dtype=np.uint8)
    data = _native.rans_encode(codes, entries)
    np.testing.assert_array_equal(_native.rans_decode(data, entries, count), codes)


@pytest.mark.parametrize("entries", [2, 3, 4, 16, 64, 256])
@pytest.mark.parametrize("width", [0.05, 0.15])
def test_the_size_is_within_one_percent_of_the_entropy(entries: int, width: float) -> None:
    codes = bell(entries, 100_000, width)
    data = _native.rans_encode(codes, entries)
    np.testing.assert_array_equal(_native.rans_decode(data, entries, codes.size), codes)
    states_and_table = 8 * 4 + 2 * entries
    assert entropy_bytes(codes) <= len(data) <= 1.01 * entropy_bytes(codes) + states_and_table


def test_rare_codes_among_very_many_equal_ones_come_back() -> None:
    codes = np.zeros(1_000_000, np.uint8)
    codes[::99_991] = np.arange(codes[::99_991].size) + 1
    data = _native.rans_encode(codes, 256)
    np.testing.assert_array_equal(_native.rans_decode(data, 256, codes.size), codes)
    assert len(data) < 800


def test_equal_codes_cost_nothing_but_the_table() -> None:
    data = _native.rans_encode(np.full(5000, 3, np.uint8), 4)
    assert data == bytes([0, 0, 0, 0x80, 0x20]) + 8 * (1 << 16).to_bytes(4, "little")


def test_the_same_codes_give_the_same_bytes() -> None:
    codes = bell(16, 10_000)
    assert _native.rans_encode(codes, 16) == _native.rans_encode(codes.copy(), 16)


def test_codes_outside_the_table_are_refused() -> None:
    with pytest.raises(ValueError, match="outside its table"):
        _native.rans_encode(np.array([4], np.uint8), 4)


def test_every_truncation_and_extension_is_an_error() -> None:
    codes = bell(16, 500)
    data = _native.rans_encode(codes, 16)
    for length in range(len(data)):
        with pytest.raises(_native.FormatError):
            _native.rans_decode(data[:length], 16, codes.size)
    with pytest.raises(_native.FormatError, match="bytes too many"):
        _native.rans_decode(data + b"\0\0", 16, codes.size)


def test_another_number_of_codes_is_an_error() -> None:
    codes = bell(16, 500)
    data = _native.rans_encode(codes, 16)
    for count in (0, 1, 499, 501, 100_000):
        with pytest.raises(_native.FormatError):
            _native.rans_decode(data, 16, count)


def test_frequencies_must_sum_to_the_whole() -> None:
    states = 8 * (1 << 16).to_bytes(4, "little")
    with pytest.raises(_native.FormatError, match="sum to 3, expected 4096"):
        _native.rans_decode(bytes([1, 2]) + states, 2, 0)
    with pytest.raises(_native.FormatError, match="is 4096, expected 0 to 4095"):
        _native.rans_decode(bytes([1, 0x80, 0x20]) + states, 2, 0)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(1, 256), st.integers(0, 2000))
def test_any_bytes_decode_to_codes_of_the_table_or_raise(
    data: bytes, entries: int, count: int
) -> None:
    try:
        codes = _native.rans_decode(data, entries, count)
    except _native.FormatError:
        return
    assert codes.size == count
    assert count == 0 or codes.max() < entries


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_codes_is_found_or_stays_in_the_table(bit: int) -> None:
    codes = bell(16, 300)
    data = _native.rans_encode(codes, 16)
    found = 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        try:
            assert _native.rans_decode(bytes(damaged), 16, codes.size).max() < 16
        except _native.FormatError:
            found += 1
    assert found > 0.9 * len(data)

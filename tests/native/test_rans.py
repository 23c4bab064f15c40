"""The entropy coder: exact, close to the entropy, and safe on any bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from trellis_walk import count_by_model, follow

from tinyvox import _native

pytestmark = pytest.mark.runtime

Codes = NDArray[np.uint8]
ONE = np.empty(0, np.uint8)
STATES = 8 * (1 << 16).to_bytes(4, "little")


def bell(entries: int, rows: int, columns: int = 100, width: float = 0.15) -> Codes:
    """Codes as a quantizer makes them of weights: most of them in the middle of the table."""
    shape = (rows, columns)
    values = np.random.default_rng(entries).normal(entries / 2, entries * width, shape)
    return np.clip(np.round(values), 0, entries - 1).astype(np.uint8)


def entropy_bytes(counts: NDArray[np.uint64]) -> float:
    """Of codes by static models; counts [models, entries]."""
    used = counts[counts.sum(1) > 0].astype(float)
    share = used / used.sum(1, keepdims=True)
    bits = np.where(used > 0, -np.log2(share, where=share > 0, out=np.zeros_like(share)), 0)
    return float((used * bits).sum() / 8)


def encode(codes: Codes, entries: int) -> bytes:
    return _native.rans_encode(codes, entries, ONE)


def decode(data: bytes, entries: int, rows: int, columns: int) -> Codes:
    return _native.rans_decode(data, rows, columns, entries, ONE)


def drawn(
    entries: int, shape: tuple[int, int], groups: int, trellis: bool, seed: int
) -> tuple[Codes, Codes, int]:
    """Codes, the group of each row, and the code of zero in a trellis, or -1."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, groups, shape[0], dtype=np.uint8)
    zero = int(generator.integers(entries)) if trellis else -1
    codes = generator.integers(0, entries, shape, dtype=np.uint8)
    return (follow(*shape, entries, zero, seed) if trellis else codes), group, zero


@given(st.integers(1, 256), st.integers(0, 20), st.integers(0, 30), st.integers(0, 1 << 32))
def test_codes_come_back(entries: int, rows: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    used = generator.integers(1, entries + 1)
    codes = generator.integers(0, used, (rows, columns), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(codes, entries), entries, rows, columns), codes)


@settings(deadline=None)
@given(
    st.integers(1, 256),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 256),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_codes_of_groups_and_of_a_trellis_come_back(
    entries: int, rows: int, columns: int, groups: int, trellis: bool, seed: int
) -> None:
    """Groups that no row is in, and quantizers that no code has, included."""
    codes, group, zero = drawn(entries, (rows, columns), groups, trellis, seed)
    data = _native.rans_encode(codes, entries, group, groups, zero)
    found = _native.rans_decode(data, rows, columns, entries, group, groups, zero)
    np.testing.assert_array_equal(found, codes)


@settings(deadline=None)
@given(
    st.integers(1, 256),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 1000),
)
def test_counts_are_those_of_numpy(
    entries: int, rows: int, columns: int, groups: int, trellis: bool, seed: int
) -> None:
    codes, group, zero = drawn(entries, (rows, columns), groups, trellis, seed)
    found = _native.count_codes(codes, entries, group, groups if rows else 1, zero)
    expected = count_by_model(codes, entries, group, groups if rows else 1, zero)
    np.testing.assert_array_equal(found, expected)


# Size.


@pytest.mark.parametrize("entries", [2, 3, 4, 16, 64, 256])
@pytest.mark.parametrize("width", [0.05, 0.15])
def test_the_size_is_within_one_percent_of_the_entropy(entries: int, width: float) -> None:
    codes = bell(entries, 1000, width=width)
    data = encode(codes, entries)
    np.testing.assert_array_equal(decode(data, entries, *codes.shape), codes)
    least = entropy_bytes(_native.count_codes(codes, entries, ONE))
    states_and_table = 8 * 4 + 1 + 2 * entries
    assert least <= len(data) <= 1.01 * least + states_and_table


@pytest.mark.parametrize("entries", [3, 15, 63, 255])
@pytest.mark.parametrize("zero", [-1, 0, 1])
def test_groups_and_quantizers_cost_their_own_entropy(entries: int, zero: int) -> None:
    """Rows of two widths; `zero` 1 is the middle of the grid."""
    group = (np.arange(600) % 2).astype(np.uint8)
    zero = zero * (entries // 2)
    if zero >= 0:
        codes = follow(600, 200, entries, zero, 3)
    else:
        wide, narrow = bell(entries, 300, 200), bell(entries, 300, 200, 0.05)
        codes = np.stack([wide, narrow], axis=1).reshape(600, 200)
    data = _native.rans_encode(codes, entries, group, 2, zero)
    counts = _native.count_codes(codes, entries, group, 2, zero)
    tables = len(counts) * (1 + 2 * entries)
    assert entropy_bytes(counts) <= len(data) <= 1.01 * entropy_bytes(counts) + 32 + tables


def test_a_model_a_group_pays_for_rows_of_different_widths() -> None:
    wide, narrow = bell(16, 300), bell(16, 300, width=0.03)
    codes = np.concatenate([wide, narrow])
    group = np.repeat([0, 1], 300).astype(np.uint8)
    grouped = _native.rans_encode(codes, 16, group, 2)
    assert len(grouped) < 0.9 * len(encode(codes, 16))


def test_rare_codes_among_very_many_equal_ones_come_back() -> None:
    codes = np.zeros((1000, 1000), np.uint8)
    rare = codes.reshape(-1)[::99_991]
    rare[:] = np.arange(rare.size) + 1
    data = encode(codes, 256)
    np.testing.assert_array_equal(decode(data, 256, 1000, 1000), codes)
    assert len(data) < 800


def test_equal_codes_cost_nothing_but_the_table() -> None:
    data = encode(np.full((50, 100), 3, np.uint8), 4)
    assert data == bytes([1, 0, 0, 0, 0x80, 0x20]) + STATES


def test_a_model_without_codes_costs_a_byte() -> None:
    codes, group = np.full((2, 10), 1, np.uint8), np.array([2, 2], np.uint8)
    assert _native.rans_encode(codes, 2, group, 3) == bytes([0, 0, 1, 0, 0x80, 0x20]) + STATES


def test_the_same_codes_give_the_same_bytes() -> None:
    codes = bell(16, 100)
    assert encode(codes, 16) == encode(codes.copy(), 16)


# What the coder is asked for.


@pytest.mark.parametrize(
    ("codes", "entries", "group", "groups", "zero", "message"),
    [
        ([[4]], 4, [], 1, -1, "a code lies outside its table"),
        ([[0]], 0, [], 1, -1, "entries are 1 to 256"),
        ([[0]], 257, [], 1, -1, "entries are 1 to 256"),
        ([[0]], 4, [], 1, 4, "zero is one of the codes"),
        ([[0], [0]], 4, [0], 1, -1, "one group a row"),
        ([[0]], 4, [], 2, -1, "no groups, but more than one"),
        ([[0]], 4, [2], 2, -1, "a group lies outside their number"),
    ],
)
def test_what_cannot_be_coded_is_refused(
    codes: list[list[int]],
    entries: int,
    group: list[int],
    groups: int,
    zero: int,
    message: str,
) -> None:
    arrays = np.array(codes, np.uint8), entries, np.array(group, np.uint8), groups, zero
    with pytest.raises(ValueError, match=message):
        _native.rans_encode(*arrays)
    with pytest.raises(ValueError, match=message):
        _native.count_codes(*arrays)


def test_codes_against_the_trellis_are_refused() -> None:
    """State 0 has even levels alone, so code 1 of zero 0 cannot come first."""
    codes = np.array([[0, 0, 0], [0, 1, 0]], np.uint8)
    for function in (_native.rans_encode, _native.count_codes):
        with pytest.raises(_native.FormatError, match="code 1 in row 1 does not follow the trell"):
            function(codes, 4, ONE, 1, 0)


# Bytes from strangers.


def test_every_truncation_and_extension_is_an_error() -> None:
    data = encode(bell(16, 5), 16)
    for length in range(len(data)):
        with pytest.raises(_native.FormatError):
            decode(data[:length], 16, 5, 100)
    with pytest.raises(_native.FormatError, match="do not end where they should"):
        decode(data + b"\0\0", 16, 5, 100)


def test_another_number_of_codes_is_an_error() -> None:
    data = encode(bell(16, 5), 16)
    for rows, columns in ((0, 100), (1, 1), (5, 99), (5, 101), (4, 100), (6, 100), (1000, 100)):
        with pytest.raises(_native.FormatError):
            decode(data, 16, rows, columns)


def test_frequencies_must_sum_to_the_whole() -> None:
    with pytest.raises(_native.FormatError, match="sum to 3, expected 4096"):
        decode(bytes([1, 1, 2]) + STATES, 2, 0, 0)
    with pytest.raises(_native.FormatError, match="is 4096, expected 0 to 4095"):
        decode(bytes([1, 1, 0x80, 0x20]) + STATES, 2, 0, 0)
    with pytest.raises(_native.FormatError, match="presence of a model is 2, expected 0 to 1"):
        decode(bytes([2, 0, 0x80, 0x20]) + STATES, 2, 0, 0)


@pytest.mark.parametrize("zero", [-1, 0])
def test_a_code_whose_model_is_absent_is_an_error(zero: int) -> None:
    data = bytes([0] * (1 if zero < 0 else 2)) + STATES
    with pytest.raises(_native.FormatError, match="a code has a model without frequencies"):
        _native.rans_decode(data, 1, 1, 2, ONE, 1, zero)


def test_a_code_that_its_state_has_not_is_found() -> None:
    """Frequencies that let state 0 say code 1, an odd level."""
    data = bytes([1, 0, 0x80, 0x20, 0]) + STATES
    assert _native.rans_decode(data, 2, 9, 2, ONE, 1, 1).tolist() == [[1] * 9] * 2
    with pytest.raises(_native.FormatError, match="a code does not follow the trellis"):
        _native.rans_decode(data, 2, 9, 2, ONE, 1, 0)


def decoded_or_refused(
    data: bytes,
    rows: int,
    columns: int,
    entries: int,
    group: Codes = ONE,
    groups: int = 1,
    zero: int = -1,
) -> Codes | None:
    """Codes that the table and the trellis have, or None where the bytes are refused."""
    try:
        codes = _native.rans_decode(data, rows, columns, entries, group, groups, zero)
    except _native.FormatError:
        return None
    assert codes.shape == (rows, columns)
    _native.count_codes(codes, entries, group, groups, zero)
    return codes


@settings(max_examples=300)
@given(
    st.binary(max_size=200),
    st.integers(1, 256),
    st.integers(0, 40),
    st.integers(0, 50),
    st.integers(-1, 1),
)
def test_any_bytes_decode_to_codes_of_the_table_or_raise(
    data: bytes, entries: int, rows: int, columns: int, zero: int
) -> None:
    decoded_or_refused(data, rows, columns, entries, zero=min(zero, entries - 1))


@pytest.mark.parametrize("zero", [-1, 7])
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_found_or_leaves_codes_that_there_are(bit: int, zero: int) -> None:
    group = (np.arange(6) % 3).astype(np.uint8)
    codes = bell(15, 6, 50) if zero < 0 else follow(6, 50, 15, zero, 1)
    data = _native.rans_encode(codes, 15, group, 3, zero)
    found = 0
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        found += decoded_or_refused(bytes(damaged), 6, 50, 15, group, 3, zero) is None
    assert found > 0.9 * len(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutations_are_refused_or_leave_codes_that_there_are(data: st.DataObject) -> None:
    zero = data.draw(st.sampled_from([-1, 7]))
    codes = bell(15, 20, 13) if zero < 0 else follow(20, 13, 15, zero, 2)
    damaged = bytearray(_native.rans_encode(codes, 15, ONE, 1, zero))
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=6)):
        damaged[at] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(damaged), 20, 13, 15, zero=zero)

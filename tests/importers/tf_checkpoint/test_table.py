"""Checksums, Snappy and tables, against what others publish."""

from __future__ import annotations

import random

import pytest
from tf_files import table

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_checkpoint.checksum import crc32c, unmasked
from tinyvox.importers.tf_checkpoint.table import entries, unpacked


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_checksums(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("size", [4095, 4096, 4097, 50_001])
def test_strips_give_the_checksum_of_the_whole(size: int) -> None:
    """A byte after another, by the definition."""
    data = random.Random(size).randbytes(size)
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    assert crc32c(data) == state ^ 0xFFFFFFFF


def test_masks_come_off() -> None:
    masked = ((0x12345678 >> 15 | 0x12345678 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert unmasked(masked) == 0x12345678


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x0b\x00a\x1a\x01\x00\x08xyz", b"aaaaaaaaxyz"),  # runs into itself
        (b"\x08\x0cabcd\x01\x04", b"abcdabcd"),  # a copy of one byte of offset
        (b"\x08\x0cabcd\x0f\x04\x00\x00\x00", b"abcdabcd"),  # of four
    ],
)
def test_snappy(packed: bytes, expected: bytes) -> None:
    assert unpacked(memoryview(packed)) == expected


def test_long_literals() -> None:
    data = bytes(range(256)) * 2
    assert unpacked(memoryview(b"\x80\x04" + b"\xf4\xff\x01" + data)) == data


@pytest.mark.parametrize(
    "packed",
    [b"\x05\x08abc", b"\x03\x01\x05", b"\xff\xff\xff\xff\x0f", b"\x08\x0cabcd\x02\x00\x00"],
)
def test_snappy_that_is_damaged(packed: bytes) -> None:
    with pytest.raises(ImporterError, match="damaged"):
        unpacked(memoryview(packed))


@pytest.mark.parametrize("kind", [0, 1])
def test_tables_give_what_was_put_in(kind: int) -> None:
    pairs = [(b"", b"head"), (b"a", b""), (b"layer/weights", bytes(300))]
    assert list(entries(memoryview(table(pairs, kind)))) == pairs

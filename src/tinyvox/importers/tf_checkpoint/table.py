"""The sorted table of names that a checkpoint's `.index` file is, in the format of LevelDB.

Source: LevelDB's doc/table_format.md, and Snappy's format_description.txt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_checkpoint.checksum import crc32c, unmasked
from tinyvox.importers.wire import varint

_FOOTER, _TRAILER = 48, 5
_MAGIC = 0xDB4775248B80FB57
_MAX_BLOCK = 1 << 26
"""Most bytes of a block after it was unpacked."""


def is_table(data: memoryview) -> bool:
    """Whether these bytes end as a table does."""
    return len(data) >= _FOOTER and struct.unpack("<Q", data[-8:])[0] == _MAGIC


def entries(data: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table. Raises ImporterError where it is damaged."""
    if not is_table(data):
        raise ImporterError("is no checkpoint index: it does not end as a table of TensorFlow does")
    footer = data[-_FOOTER:]
    _, place = _handle(footer, 0)
    index, _ = _handle(footer, place)
    for _, value in _pairs(_block(data, index)):
        handle, _ = _handle(memoryview(value), 0)
        yield from _pairs(_block(data, handle))


def _handle(data: memoryview, place: int) -> tuple[tuple[int, int], int]:
    """Where a block begins and how long it is."""
    start, place = varint(data, place)
    size, place = varint(data, place)
    return (start, size), place


def _block(data: memoryview, handle: tuple[int, int]) -> memoryview:
    start, size = handle
    end = start + size
    if end + _TRAILER > len(data):
        raise ImporterError(f"damaged: a block from byte {start} to {end} of {len(data)}")
    kind, checksum = struct.unpack("<BI", data[end : end + _TRAILER])
    if crc32c(data[start : end + 1]) != unmasked(checksum):
        raise ImporterError(f"damaged: the checksum of the block at byte {start} is wrong")
    if kind > 1:
        raise ImporterError(f"damaged: a block is packed by method {kind}")
    return memoryview(unpacked(data[start:end])) if kind == 1 else data[start:end]


def _pairs(block: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; a key begins like the one before."""
    if len(block) < 4:
        raise ImporterError("damaged: a block without an end")
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 - 4 * restarts, 0, b""
    while place < end:
        shared, place = varint(block, place)
        own, place = varint(block, place)
        size, place = varint(block, place)
        if shared > len(key) or own + size > end - place:
            raise ImporterError("damaged: an entry that is longer than its block")
        key = key[:shared] + bytes(block[place : place + own])
        place += own
        yield key, bytes(block[place : place + size])
        place += size


def unpacked(data: memoryview) -> bytes:
    """What Snappy packed: pieces as they are, and copies of what came before."""
    total, place = varint(data, 0)
    if total > _MAX_BLOCK:
        raise ImporterError(f"damaged: a block of {total} bytes")
    found = bytearray()
    while place < len(data) and len(found) <= total:
        kind, high = data[place] & 3, data[place] >> 2
        place += 1
        if kind == 0:
            size, place = (high, place) if high < 60 else _little(data, place, high - 59)
            found += data[place : place + size + 1]
            place += size + 1
            continue
        size = (high & 7) + 4 if kind == 1 else high + 1
        offset, place = _little(data, place, (0, 1, 2, 4)[kind])
        _copy(found, (high >> 3 << 8) + offset if kind == 1 else offset, size)
    if len(found) != total:
        raise ImporterError(f"damaged: {len(found)} bytes unpacked, expected {total}")
    return bytes(found)


def _little(data: memoryview, place: int, count: int) -> tuple[int, int]:
    return int.from_bytes(data[place : place + count], "little"), place + count


def _copy(found: bytearray, offset: int, size: int) -> None:
    """What stands so far back once more; it may run into itself."""
    if not 0 < offset <= len(found):
        raise ImporterError("damaged: a copy of what is not there")
    piece = bytes(found[len(found) - offset :])
    found += (piece * (size // len(piece) + 1))[:size]

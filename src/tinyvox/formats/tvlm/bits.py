"""Numbers in fewer bits: packed at one width, or as a sequence that never falls.

The lowest bit of a byte is its first. `native/src/bits.h` and `monotone.h` read the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError

BLOCK = 128
"""Numbers of a sequence that are coded together."""
BASE_BITS, OFFSET_BITS = 36, 28
PADDING = bytes(8)
"""What ends a section whose packed bits are read eight bytes at a time."""
_PIECE = 1 << 18
_MOST_HIGHS = 3 * BLOCK // 8
"""Bytes: a block has at most two zeros for each of its ones."""

Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def pack(values: NDArray[Any], width: int) -> bytes:
    """Numbers [count] of `width` bits each, one after the other, padded to a byte."""
    if width == 0:
        return b""
    pieces: list[bytes] = []
    for start in range(0, len(values), _PIECE):  # a whole number of bytes each, but for the last
        part = values[start : start + _PIECE].astype("<u8")
        bits = np.unpackbits(part.view(np.uint8).reshape(-1, 8), 1, width, "little")
        pieces.append(np.packbits(bits.ravel(), bitorder="little").tobytes())
    return b"".join(pieces)


def unpack(data: bytes, count: int, width: int) -> Numbers:
    """The numbers [count] that `pack` was given."""
    pieces = [np.zeros(0, np.int64)]
    for start in range(0, count, _PIECE):
        size = min(_PIECE, count - start)
        packed = np.frombuffer(data, np.uint8, (size * width + 7) // 8, start * width // 8)
        pieces.append(_unpack_rows(packed[None], size, width)[0])
    return np.concatenate(pieces)


def pack_sequence(values: NDArray[Any]) -> bytes:
    """Numbers [count] that never fall. Raises ModelError where they are too many or too large."""
    values = np.asarray(values, np.int64)
    whole = len(values) // BLOCK * BLOCK
    parts = [values[:whole].reshape(-1, BLOCK)]
    if whole < len(values):
        parts.append(values[None, whole:])
    ends = np.concatenate([[0], *(part[:, -1] for part in parts)])
    data, sizes, first = [], [np.zeros(1, np.int64)], 0
    for part in parts:
        content, size = _pack_blocks(part, ends[first : first + len(part)])
        data.append(content)
        sizes.append(size)
        first += len(part)
    offsets = np.cumsum(np.concatenate(sizes))
    if ends[-1] >= 1 << BASE_BITS or offsets[-1] >= 1 << OFFSET_BITS:
        raise ModelError("the language model is too large for a .tvlm file; prune it first")
    headers = (ends | offsets << BASE_BITS).astype("<i8")
    return b"".join([headers.tobytes(), *data])


def _low_bits(ranges: Numbers, size: int) -> Numbers:
    """How many low bits of each number of a block are packed."""
    mean = ranges // size
    return np.where(mean, np.frexp(mean)[1] - 1, 0).astype(np.int64)


def _pack_blocks(values: Numbers, bases: Numbers) -> tuple[bytes, Numbers]:
    """Blocks of one size, [blocks, size], and how many bytes each takes."""
    size = values.shape[1]
    ranges = values[:, -1] - bases
    low_bits = _low_bits(ranges, size)
    low_bytes = (size * low_bits + 7) // 8
    high_bytes = (size + (ranges >> low_bits) + 7) // 8
    sizes = low_bytes + high_bytes
    starts = np.cumsum(sizes) - sizes
    result = np.zeros(int(sizes.sum()), np.uint8)
    for width in np.unique(low_bits).tolist():
        chosen = low_bits == width
        rest = values[chosen] - bases[chosen, None]
        lows, start = _pack_rows(rest & ((1 << width) - 1), width), starts[chosen]
        _put(result, start, lows, np.full(len(start), lows.shape[1]))
        _put(result, start + lows.shape[1], _unary(rest >> width), high_bytes[chosen])
    return result.tobytes(), sizes


def _pack_rows(values: Numbers, width: int) -> Bytes:
    """Each row as `pack` packs it."""
    bits = np.unpackbits(values.astype("<u8")[..., None].view(np.uint8), 2, width, "little")
    return np.packbits(bits.reshape(len(values), -1), 1, "little")


def _unary(highs: Numbers) -> Bytes:
    """Each row as so many zeros as it rises, then a one, for each number."""
    bits = np.zeros((len(highs), 8 * _MOST_HIGHS), np.uint8)
    np.put_along_axis(bits, highs + np.arange(highs.shape[1]), 1, 1)
    return np.packbits(bits, 1, "little")


def _put(result: Bytes, starts: Numbers, rows: Bytes, sizes: Numbers) -> None:
    """Write the first `sizes` bytes of each row at its start."""
    columns = np.arange(rows.shape[1])
    inside = columns < sizes[:, None]
    result[(starts[:, None] + columns)[inside]] = rows[inside]


def unpack_sequence(data: bytes | memoryview, count: int) -> tuple[Numbers, int]:
    """The numbers [count] that `pack_sequence` was given, and how many bytes it made of them."""
    blocks = -(-count // BLOCK)
    headers = np.frombuffer(data, "<u8", blocks + 1)
    ends = (headers & np.uint64((1 << BASE_BITS) - 1)).astype(np.int64)
    offsets = (headers >> np.uint64(BASE_BITS)).astype(np.int64) + headers.nbytes
    content = np.frombuffer(data, np.uint8)[: offsets[-1]]
    result = np.zeros(count, np.int64)
    whole = count // BLOCK
    rows = result[: whole * BLOCK].reshape(-1, BLOCK)
    rows[:] = _unpack_blocks(content, offsets[: whole + 1], ends[: whole + 1], BLOCK)
    if whole < blocks:
        rest = _unpack_blocks(content, offsets[whole:], ends[whole:], count - whole * BLOCK)
        result[whole * BLOCK :] = rest[0]
    return result, int(offsets[-1])


def _unpack_blocks(content: Bytes, offsets: Numbers, ends: Numbers, size: int) -> Numbers:
    """The numbers of blocks, [blocks, size]."""
    ranges = np.diff(ends)
    low_bits = _low_bits(ranges, size)
    result = np.zeros((len(ranges), size), np.int64)
    for width in np.unique(low_bits).tolist():
        chosen = np.flatnonzero(low_bits == width)
        low_bytes = (size * width + 7) // 8
        starts = offsets[chosen]
        lows = content[starts[:, None] + np.arange(low_bytes)]
        columns = np.minimum(np.arange(_MOST_HIGHS) + low_bytes + starts[:, None], len(content) - 1)
        bits = np.unpackbits(content[columns], axis=1, bitorder="little")
        bits &= np.arange(bits.shape[1]) < size + (ranges[chosen] >> width)[:, None]
        highs = np.nonzero(bits)[1].reshape(-1, size) - np.arange(size)
        result[chosen] = ends[chosen, None] + (highs << width | _unpack_rows(lows, size, width))
    return result


def _unpack_rows(rows: Bytes, size: int, width: int) -> Numbers:
    """The numbers [rows, size] of rows that are packed each by itself."""
    if width == 0:
        return np.zeros((len(rows), size), np.int64)
    bits = np.unpackbits(rows, 1, size * width, "little").reshape(len(rows), size, width)
    octets = np.packbits(bits, 2, "little")
    result = np.zeros((len(rows), size, 8), np.uint8)
    result[..., : octets.shape[2]] = octets
    return result.view("<i8")[..., 0]

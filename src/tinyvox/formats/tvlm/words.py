"""The words of a language model as bytes: groups by frequency, in each the alphabetical order.

A word is written as the number of letters that it shares with the one before, and its other
letters, each in a prefix code that depends on the letter before it. `native/src/word_list.h` reads
it.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.formats.tvlm.bits import PADDING, pack, pack_sequence

SPECIAL = 3
"""The first ids are of `<unk>`, `<s>` and `</s>`, which are not written."""
_BLOCK = 16
_LONGEST_CODE = 15
_LONGEST_WORD = 1023
_SURELY_SHORT = _LONGEST_WORD // 4
"""Letters that fit into the longest word, whatever they are."""
_MOST_SHARED = 255
_SHARED = 256
"""The row of the codes of shared letters; the others are those of the bytes before."""

Counts = NDArray[np.int64]


def check_words(words: Iterable[str]) -> None:
    """Raise ModelError for a word that a file cannot have."""
    for word in words:
        if len(word) > _SURELY_SHORT or "\0" in word:
            spelling(word)


def spelling(word: str) -> bytes:
    """A word as UTF-8, or as the bytes that stood in for it. Raises ModelError."""
    try:
        data = word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ModelError(f"the word {word!r} has a letter that is no Unicode; remove it") from None
    if not 0 < len(data) <= _LONGEST_WORD or 0 in data:
        raise ModelError(
            f"the word {word[:40]!r} has {len(data)} bytes, expected 1 to {_LONGEST_WORD}, none of "
            "them 0; remove it"
        )
    return data


def order_of(spellings: Sequence[bytes], frequency: NDArray[Any]) -> NDArray[np.int64]:
    """The old ids of words in their new order, [words]: groups of falling frequency, each four
    times as large as the one before, each in alphabetical order. Special words stay the first. It
    does not depend on the old ids."""
    rising = (-np.asarray(frequency)).tolist()
    falling = sorted(range(SPECIAL, len(spellings)), key=lambda i: (rising[i], spellings[i]))
    result = list(range(SPECIAL))
    first, size = 0, _BLOCK
    while first < len(falling):
        result += sorted(falling[first : first + size], key=spellings.__getitem__)
        first, size = first + size, 4 * size
    return np.array(result, np.int64)


def encode_words(spellings: Sequence[bytes]) -> bytes:
    """The section of words that are in the order that `order_of` gives."""
    rows, symbols, ends = _symbols(spellings[SPECIAL:])
    counts = np.zeros((257, 256), np.int64)
    np.add.at(counts, (rows, symbols), 1)
    lengths = np.stack([code_lengths(row) for row in counts])
    codes = np.stack([_canonical(row) for row in lengths])
    sizes = lengths[rows, symbols].astype(np.int64)
    bits = _concatenated(codes[rows, symbols], sizes)
    reached = np.cumsum(sizes)[np.array(ends, np.int64) - 1] if ends else np.zeros(0, np.int64)
    used = np.flatnonzero(counts[:256].any(0) & (np.arange(256) > 0))
    letters = [0, *used.tolist()]
    return b"".join([
        struct.pack("<I", len(spellings)),
        np.packbits(np.isin(np.arange(256), used), bitorder="little").tobytes(),
        pack(lengths[_SHARED], 4),
        pack(lengths[np.ix_(letters, letters)].ravel(), 4),
        pack_sequence(reached),
        bits,
        PADDING,
    ])  # fmt: skip


def _symbols(spellings: Sequence[bytes]) -> tuple[Counts, Counts, list[int]]:
    """All symbols, with the rows of their codes, and how many there are up to the end of each
    block."""
    rows, symbols, ends = bytearray(), bytearray(), []
    shared_at: list[int] = []
    before = b""
    for i, word in enumerate(spellings):
        shared = 0
        if i % _BLOCK:
            shared = _shared(before, word)
            shared_at.append(len(rows))
            rows.append(0)
            symbols.append(shared)
        rows += word[shared - 1 : shared] or b"\0"
        rows += word[shared:]
        symbols += word[shared:] + b"\0"
        if i % _BLOCK == _BLOCK - 1 or i == len(spellings) - 1:
            ends.append(len(rows))
        before = word
    numbers = np.frombuffer(rows, np.uint8).astype(np.int64)
    numbers[shared_at] = _SHARED
    return numbers, np.frombuffer(symbols, np.uint8).astype(np.int64), ends


def _shared(before: bytes, word: bytes) -> int:
    """How many bytes two words have in common at their start."""
    most = min(len(before), len(word), _MOST_SHARED)
    return next((i for i in range(most) if before[i] != word[i]), most)


def code_lengths(counts: Counts) -> NDArray[np.uint8]:
    """The lengths of the codes of symbols that occur so often, 0 for those that do not.

    Source: D. Huffman, "A method for the construction of minimum-redundancy codes", 1952. Codes
    that would be too long are made shorter by counts that are nearer to one another.
    """
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts).tolist()
    if len(used) == 1:
        lengths[used] = 1
    heap = [(int(counts[symbol]), symbol, [symbol]) for symbol in used]
    heapq.heapify(heap)
    while len(heap) > 1:
        one, other = heapq.heappop(heap), heapq.heappop(heap)
        symbols = one[2] + other[2]
        lengths[symbols] += 1
        heapq.heappush(heap, (one[0] + other[0], min(one[1], other[1]), symbols))
    if lengths.max(initial=0) <= _LONGEST_CODE:
        return lengths
    return code_lengths(np.where(counts, counts // 2 + 1, 0))


def _canonical(lengths: NDArray[np.uint8]) -> Counts:
    """The code of each symbol: shorter codes first, those of one length in the order of symbols."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, _LONGEST_CODE + 1):
        chosen = np.flatnonzero(lengths == length)
        codes[chosen] = code + np.arange(len(chosen))
        code = (code + len(chosen)) * 2
    return codes


def _concatenated(codes: Counts, sizes: Counts) -> bytes:
    """Codes one after the other, the highest bit of each first."""
    starts = np.cumsum(sizes) - sizes
    bits = np.zeros(int(sizes.sum()), np.uint8)
    for i in range(_LONGEST_CODE):
        chosen = sizes > i
        bits[starts[chosen] + i] = codes[chosen] >> (sizes[chosen] - 1 - i) & 1
    return np.packbits(bits, bitorder="little").tobytes()

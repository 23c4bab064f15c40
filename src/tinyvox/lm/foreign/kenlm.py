"""KenLM's binary files: tries, quantized or not, with pointers compressed or not; hash tables.

A trie has n-grams backwards: below a word stand the words before it. Layouts are those of format
version 5, which KenLM maps as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.lm.assembly import ROUNDING, Listed, assemble, unigrams, vocabulary
from tinyvox.lm.foreign.bytes import MOST_BITS, Bytes, packed
from tinyvox.lm.foreign.hashing import murmur
from tinyvox.lm.foreign.probing import Tables
from tinyvox.lm.ngrams import END, START, UNKNOWN, NGrams

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
ANY_VERSION = b"mmap lm http://kheafield.com/code "
FIXED = 88
"""Where the settings begin, after magic and test values."""
COUNTS = 108
"""Where the numbers of n-grams begin."""
PROBING, REST_PROBING, TRIE, QUANT_TRIE, ARRAY_TRIE, QUANT_ARRAY_TRIE = range(6)
LONGEST = 16
MOST = 1 << 28
"""The most n-grams of a model."""
UNIGRAM = np.dtype([("log10", "<f4"), ("backoff", "<f4"), ("next", "<u8")])
SIGN = np.uint32(1 << 31)


@dataclass(frozen=True)
class Header:
    """What a binary says of itself; `end` is the size of the header in bytes."""

    kind: int
    multiplier: float
    has_words: bool
    counts: tuple[int, ...]
    end: int

    @property
    def quantized(self) -> bool:
        """Whether probabilities are codes."""
        return self.kind in (QUANT_TRIE, QUANT_ARRAY_TRIE)

    @property
    def arrays(self) -> bool:
        """Whether the upper bits of pointers are in tables."""
        return self.kind in (ARRAY_TRIE, QUANT_ARRAY_TRIE)


@dataclass(frozen=True)
class Trie:
    """The contents of a binary: n-grams by the ids of its words, and where they end.

    `hashes` are those of the words from id 1 on; `words` are theirs, or None where it has none.
    """

    orders: list[Listed]
    hashes: NDArray[np.uint64]
    words: list[bytes] | None
    end: int


def is_kenlm(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a binary of KenLM, of any version."""
    return head.startswith(ANY_VERSION)


def read_kenlm(path: Path, words: Sequence[str] | None = None) -> NGrams:
    """A model from a KenLM binary.

    `words` are candidates for the words of a file that has only their hashes; a word of the model
    that is not among them is called by its hash. Raises FileError for what is damaged, for the
    probing kinds, which cannot be listed, and where words are needed and not given.
    """
    file = Bytes.open(path)
    return named_model(file, read_trie(file), words)


def named_model(file: Bytes, trie: Trie, words: Sequence[str] | None) -> NGrams:
    """The model of a trie. Raises FileError where it has no words and none are given."""
    if trie.words is None and words is None:
        file.fault("has no words, only their hashes; give a list of words")
    return to_model(file, trie, [word.encode("utf-8", "surrogateescape") for word in words or ()])


def to_model(file: Bytes, trie: Trie, candidates: Sequence[bytes] = ()) -> NGrams:
    """The model of a trie; its words are its own, or those of the candidates by their hashes.

    Raises FileError where an n-gram or a word is there twice.
    """
    own = trie.words if trie.words is not None else named(trie.hashes, candidates)
    try:
        words, ids = vocabulary([word.decode("utf-8", "surrogateescape") for word in own])
        first, *longer = trie.orders
        renamed = [
            Listed(ids[each.words].astype(np.int32), each.log10, each.backoff) for each in longer
        ]
        return assemble(words, unigrams(len(words), ids, first.log10, first.backoff), renamed)
    except ModelError as error:
        file.fault(f"{error}; it is damaged")


def named(hashes: NDArray[np.uint64], candidates: Sequence[bytes]) -> list[bytes]:
    """The words by id, from 0: candidates by their hashes, and `<hash 0123456789abcdef>`."""
    known = [*candidates, START.encode(), END.encode()]
    found = dict(zip(murmur(known).tolist(), known, strict=True))
    own = [found.get(h) or b"<hash %016x>" % h for h in hashes.tolist()]
    return [UNKNOWN.encode(), *own]


def read_header(file: Bytes) -> Header:
    """The header of a binary. Raises FileError for another version, and for odd numbers."""
    if file.slice(0, len(MAGIC), "the header").tobytes() != MAGIC:
        file.fault("is of another version of KenLM's format, or was not finished; expected 5")
    length = file.number(FIXED, "<u1", "the header")
    multiplier, kind, has_words, version = file.array(
        FIXED + 4, "<f4,<u4,<u4,<u4", 1, "the header"
    )[0].tolist()
    if not 2 <= length <= LONGEST:
        file.fault(f"has n-grams of {length} words, expected 2 to {LONGEST}; it is damaged")
    counts = file.array(COUNTS, "<u8", length, "the header").tolist()
    if kind == REST_PROBING:
        file.fault("is of the kind with rest costs; build it as a trie with build_binary trie")
    expected = 0 if kind == PROBING else 1
    if kind > QUANT_ARRAY_TRIE or version != expected:
        file.fault(f"has a search of kind {kind}, version {version}; expected version {expected}")
    if sum(counts) > MOST or not counts[0]:
        file.fault(f"announces {sum(counts):,} n-grams, expected 1 to {MOST:,}; it is damaged")
    end = -(-(COUNTS + 8 * length) // 8) * 8
    return Header(kind, multiplier, bool(has_words & 255), tuple(counts), end)


def read_trie(file: Bytes) -> Trie:
    """The contents of a binary. Raises FileError for what is damaged."""
    header = read_header(file)
    if header.kind == PROBING:
        return _read_tables(file, header)
    place = header.end
    count = file.number(place, "<u8", "the vocabulary")
    if not 0 < count <= header.counts[0]:
        file.fault(f"has {count:,} words, expected at most {header.counts[0]:,}; it is damaged")
    hashes = file.array(place + 8, "<u8", count, "the vocabulary")
    place += 8 + 8 * header.counts[0]
    reader = _Reader(file, header, place)
    orders = reader.orders(count + 1)
    words = _words(file, reader.place, count + 1) if header.has_words else None
    return Trie(orders, hashes, words, reader.place)


def _read_tables(file: Bytes, header: Header) -> Trie:
    tables = Tables(file, header.end, header.multiplier)
    hashes = tables.words(header.counts[0])
    orders = tables.orders(header.counts, len(hashes) + 1)
    words = _words(file, tables.place, len(hashes) + 1) if header.has_words else None
    return Trie(orders, hashes, words, tables.place)


def _words(file: Bytes, place: int, count: int) -> list[bytes]:
    text = file.slice(place, len(file) - place, "the words").tobytes()
    words = text.split(b"\0", count)[:count]
    if len(words) < count or words[0] != UNKNOWN.encode():
        file.fault(f"has {len(words):,} words at its end, expected {count:,}, with <unk> first")
    return words


class _Reader:
    """Goes through the orders of a trie; `place` is where the next part begins."""

    def __init__(self, file: Bytes, header: Header, place: int) -> None:
        self._file, self._header, self.place = file, header, place
        self._tables: list[NDArray[np.float32]] = []
        if header.quantized:
            self._read_tables()

    def _read_tables(self) -> None:
        version, *self._bits = self._take("<u1", 3, "the tables").tolist()
        if version != 2 or not all(1 <= bits <= 25 for bits in self._bits):
            self._file.fault(f"has tables of version {version} and {self._bits} bits; damaged")
        self.place += 5
        for _ in self._header.counts[1:-1]:
            self._tables += [self._take("<f4", 1 << bits, "the tables") for bits in self._bits]
        self._tables.append(self._take("<f4", 1 << self._bits[0], "the tables"))

    def _take(self, kind: Any, count: int, what: str) -> NDArray[Any]:
        values = self._file.array(self.place, kind, count, what)
        self.place += values.nbytes
        return values

    def orders(self, words: int) -> list[Listed]:
        """The n-grams of each length, of so many different words."""
        counts = self._header.counts
        first = self._take(UNIGRAM, counts[0] + 2, "the unigrams")
        ids = np.arange(words, dtype=np.int32)[:, None]
        found = [self._listed(1, ids, first["log10"][:words], first["backoff"][:words])]
        following = first["next"][: words + 1].astype(np.int64)
        for n, count in enumerate(counts[1:], 2):
            parents = self._parents(n, following, count)
            last = n == len(counts)
            own, log10, backoff, following = (
                self._longest(count) if last else self._middle(n, count)
            )
            if count and own.max() >= words:
                self._file.fault(f"has a {n}-gram of word {own.max()} of {words:,}; it is damaged")
            ids = np.concatenate([own[:, None], found[-1].words[parents]], 1)
            found.append(self._listed(n, ids, log10, backoff))
        return found

    def _listed(
        self, n: int, ids: NDArray[Any], log10: NDArray[Any], backoff: NDArray[Any]
    ) -> Listed:
        if not (log10 <= ROUNDING).all() or not (backoff < np.inf).all():
            self._file.fault(f"has a {n}-gram whose probability is no number up to 1; damaged")
        return Listed(ids, np.minimum(log10, 0), backoff)

    def _parents(self, n: int, following: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """For each n-gram of n words the shorter one that it stands below."""
        sizes = np.diff(following)
        if following[0] != 0 or following[-1] != count or (sizes < 0).any():
            self._file.fault(f"has pointers that do not lead to its {count:,} {n}-grams; damaged")
        return np.repeat(np.arange(len(sizes)), sizes)

    def _middle(self, n: int, count: int) -> tuple[Any, ...]:
        """Words, log10, back-offs, and pointers to the next order."""
        children = self._header.counts[n]
        bits, table = self._pointers(count + 1, children)
        value_bits = sum(self._bits) if self._header.quantized else 63
        data, starts, word_bits, total = self._packed(count, value_bits + bits)
        own = packed(data, starts[:-1], word_bits).astype(np.int32)
        log10, backoff = self._values(n, data, starts[:-1] + word_bits)
        following = packed(data, starts + (total - bits), bits).astype(np.int64)
        if table is not None:
            upper = np.searchsorted(table, np.arange(count + 1), "right") - 1
            following |= upper << bits
        return own, log10, backoff, following

    def _values(
        self, n: int, data: NDArray[np.uint8], places: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if not self._header.quantized:
            log10 = _negative(packed(data, places, 31))
            return log10, packed(data, places + 31, 32).astype(np.uint32).view(np.float32)
        probabilities, backoffs = self._tables[2 * n - 4 : 2 * n - 2]
        codes = packed(data, places, self._bits[1])
        values = packed(data, places + self._bits[1], self._bits[0])
        return probabilities[values], backoffs[codes]

    def _longest(self, count: int) -> tuple[Any, ...]:
        value_bits = self._bits[0] if self._header.quantized else 31
        data, starts, word_bits, _ = self._packed(count, value_bits)
        own = packed(data, starts[:-1], word_bits).astype(np.int32)
        values = packed(data, starts[:-1] + word_bits, value_bits)
        log10 = self._tables[-1][values] if self._header.quantized else _negative(values)
        return own, log10, np.zeros(count, np.float32), np.zeros(0, np.int64)

    def _packed(
        self, count: int, other_bits: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], int, int]:
        """The bytes of an order; where entries begin, in bits; the bits of a word, and of all."""
        word_bits = self._header.counts[0].bit_length()
        total = word_bits + other_bits
        data = self._take("<u1", ((1 + count) * total + 7) // 8 + 8, "the n-grams")
        return data, np.arange(count + 1) * total, word_bits, total

    def _pointers(self, entries: int, children: int) -> tuple[int, NDArray[np.int64] | None]:
        """Bits of a pointer that stand with each entry, and the table of the others, if any."""
        required = children.bit_length()
        if not self._header.arrays:
            return min(required, MOST_BITS), None
        version, most = self._file.array(self.place, "<u1", 2, "the pointers").tolist()
        if version != 0:
            self._file.fault(f"has compressed pointers of version {version}, expected 0")
        chopped = _chopped(entries, children, most)
        size = (children >> (required - chopped)) + 1
        aligned = -(-self.place // 8) * 8 + 8
        table = self._file.array(aligned, "<u8", size, "the pointers").astype(np.int64)
        self.place += 8 * (1 + size) + 7
        if table[0] != 0 or (np.diff(table) < 0).any():
            self._file.fault("has compressed pointers that do not rise; it is damaged")
        return required - chopped, table


def _chopped(entries: int, children: int, most: int) -> int:
    """How many upper bits of pointers are in a table: as many as make the file smallest."""
    required = children.bit_length()
    costs = [
        (children >> (required - chop)) * 64 - entries * chop
        for chop in range(min(required, most) + 1)
    ]
    return costs.index(min(costs))


def _negative(values: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The numbers whose bits these are, with the sign that all have."""
    return (values.astype(np.uint32) | SIGN).view(np.float32)

"""CMU Sphinx's binary language models (`.lm.bin`): tries of n-grams with quantized values.

The trie has n-grams backwards, as KenLM's has.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.assembly import ROUNDING, Listed, assemble, unigrams, vocabulary
from tinyvox.lm.foreign.bytes import Bytes, packed
from tinyvox.lm.ngrams import NGrams

MAGIC = b"Trie Language Model"
LONGEST = 5
UNIT = math.log10(1.0001)
"""Values are logarithms to the base 1.0001, PocketSphinx's default."""
VALUE_BITS = 16
"""Bits of a probability and of a back-off, both codes into a table."""
UNIGRAM = np.dtype([("log10", "<f4"), ("backoff", "<f4"), ("next", "<u4")])


def read_sphinx(path: Path) -> NGrams:
    """A model from a binary file of CMU Sphinx. Raises FileError for what is damaged."""
    file = Bytes.open(path)
    length = file.number(len(MAGIC), "<u1", "the header")
    if not 1 <= length <= LONGEST:
        file.fault(f"has n-grams of {length} words, expected 1 to {LONGEST}; it is damaged")
    place = len(MAGIC) + 1
    counts = file.array(place, "<u4", length, "the header").tolist()
    first, *longer = _Reader(file, counts, place + 4 * length).orders()
    words, ids = vocabulary([word.decode("utf-8", "surrogateescape") for word in first.words])
    renamed = [
        Listed(ids[each.words].astype(np.int32), each.log10, each.backoff) for each in longer
    ]
    return assemble(words, unigrams(len(words), ids, first.log10, first.backoff), renamed)


class _Reader:
    """Goes through the parts of a file."""

    def __init__(self, file: Bytes, counts: list[int], place: int) -> None:
        self._file, self._counts, self._place = file, counts, place

    def _take(self, kind: Any, count: int, what: str) -> NDArray[Any]:
        values = self._file.array(self._place, kind, count, what)
        self._place += values.nbytes
        return values

    def orders(self) -> list[Listed]:
        """The n-grams of each length; of the unigrams, the words themselves."""
        counts = self._counts
        tables = self._tables()
        first = self._take(UNIGRAM, counts[0] + 1, "the unigrams")
        following = first["next"].astype(np.int64)
        ids = np.arange(counts[0], dtype=np.int32)[:, None]
        found = []
        for n, count in enumerate(counts[1:], 2):
            parents = self._parents(n, following, count)
            own, log10, backoff, following = self._order(n, len(parents), tables)
            ids = np.concatenate([own[:, None], ids[parents]], 1)
            found.append(self._listed(n, ids, log10, backoff))
        values = first[:-1]
        names = np.array(self._words(), object)
        return [self._listed(1, names, values["log10"], values["backoff"]), *found]

    def _tables(self) -> list[NDArray[np.float32]]:
        """Probabilities and back-offs of each length by their codes, from bigrams on."""
        if len(self._counts) == 1:
            return []
        self._place += 4
        count = 2 * len(self._counts) - 3
        return [self._take("<f4", 1 << VALUE_BITS, "the tables") for _ in range(count)]

    def _parents(self, n: int, following: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """For each n-gram of n words the shorter one that it stands below."""
        sizes = np.diff(following)
        if following[0] != 0 or following[-1] > count or (sizes < 0).any():
            self._file.fault(f"has pointers that do not lead to its {count:,} {n}-grams; damaged")
        return np.repeat(np.arange(len(sizes)), sizes)

    def _order(
        self, n: int, used: int, tables: list[NDArray[np.float32]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Words, log10, back-offs, and pointers to the next order.

        There may be room for a few more n-grams than are used.
        """
        count = self._counts[n - 1]
        last = n == len(self._counts)
        word_bits = self._counts[0].bit_length()
        bits = 0 if last else self._counts[n].bit_length()
        backoff_bits = 0 if last else VALUE_BITS
        total = word_bits + backoff_bits + VALUE_BITS + bits
        data = self._take("<u1", ((1 + count) * total + 7) // 8 + 8, "the n-grams")
        starts = np.arange(used + 1) * total
        words = packed(data, starts[:-1], word_bits).astype(np.int32)
        if used and words.max() >= self._counts[0]:
            self._file.fault(f"has a {n}-gram of word {words.max()}, which is not there; damaged")
        log10 = tables[2 * n - 4][packed(data, starts[:-1] + word_bits + backoff_bits, VALUE_BITS)]
        if last:
            return words, log10, np.zeros(used, np.float32), np.zeros(0, np.int64)
        backoff = tables[2 * n - 3][packed(data, starts[:-1] + word_bits, VALUE_BITS)]
        following = packed(data, starts + (total - bits), bits).astype(np.int64)
        return words, log10, backoff, following

    def _listed(
        self, n: int, words: NDArray[Any], values: NDArray[Any], weights: NDArray[Any]
    ) -> Listed:
        """N-grams whose values are brought to base 10."""
        log10, backoff = values * UNIT, weights * UNIT
        if not (log10 <= ROUNDING).all() or not (backoff < np.inf).all():
            self._file.fault(f"has a {n}-gram whose probability is no number up to 1; damaged")
        return Listed(words, np.minimum(log10, 0), backoff)

    def _words(self) -> list[bytes]:
        size = self._file.number(self._place, "<i4", "the words")
        text = self._file.slice(self._place + 4, size, "the words").tobytes()
        words = text.split(b"\0")[:-1]
        if len(words) != self._counts[0]:
            self._file.fault(f"has {len(words):,} words, expected {self._counts[0]:,}; damaged")
        return words

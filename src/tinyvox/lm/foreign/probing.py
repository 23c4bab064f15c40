"""KenLM's probing files: hash tables, in which n-grams are found again by trying.

A table has the hash of each n-gram and not its words. Both its first and its last n - 1 words are
n-grams of the model, so these are put together in all ways, and the hashes of what comes out are
looked up. The hash of words w1 ... wn is that of w2 ... wn times one number, xor w1 + 1 times
another; that of a single word is its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.assembly import Listed
from tinyvox.lm.foreign.bytes import Bytes
from tinyvox.lm.ngrams import Indices

MOST_TRIES = 1 << 34
"""Pairs of shorter n-grams that are put together for one length, at most: about seven minutes."""
BATCH = 1 << 16
"""Pairs that are put together at once: as many as stay in the processor's cache."""
LARGEST_MULTIPLIER = 1 << 16
_SHORTER, _WORD = np.uint64(8978948897894561157), np.uint64(17894857484156487943)
_SIEVE_BITS, _SIEVES = 24, (40, 16)
_ENTRY = [("key", "<u8"), ("log10", "<f4")]
_WITH_BACKOFF = [*_ENTRY, ("backoff", "<f4")]
_WORD_ENTRY = [("hash", "<u8"), ("id", "<u4")]
_UNIGRAM = [("log10", "<f4"), ("backoff", "<f4")]


class Tables:
    """The tables of a probing file, one after another; `place` is where the next begins."""

    def __init__(self, file: Bytes, place: int, multiplier: float) -> None:
        self._file, self.place, self._multiplier = file, place, np.float32(multiplier)
        if not 1 <= multiplier <= LARGEST_MULTIPLIER:
            file.fault(f"has tables of {multiplier:g} times their entries; it is damaged")

    def _buckets(self, count: int, kind: list[tuple[str, str]], what: str) -> NDArray[np.void]:
        buckets = max(count + 1, int(self._multiplier * np.float32(count)))
        return self._plain(buckets, kind, what)

    def _plain(self, count: int, kind: list[tuple[str, str]], what: str) -> NDArray[np.void]:
        found = self._file.array(self.place, kind, count, what)
        self.place += found.nbytes
        return found

    def words(self, most: int) -> NDArray[np.uint64]:
        """The hashes of all words by id, from 1 on."""
        _, bound = self._file.array(self.place, "<u4", 2, "the vocabulary").tolist()
        self.place += 8
        table = self._buckets(most, _WORD_ENTRY, "the vocabulary")
        table = table[table["hash"] != 0]
        hashes = np.zeros(max(0, bound - 1), np.uint64) if bound <= most else np.zeros(0, np.uint64)
        ids = table["id"].astype(np.int64)
        if not 0 < bound <= most or not np.array_equal(np.sort(ids), np.arange(1, bound)):
            self._file.fault(f"has {bound:,} words, and not one hash for each; it is damaged")
        hashes[ids - 1] = table["hash"]
        return hashes

    def orders(self, counts: Sequence[int], words: int) -> list[Listed]:
        """The n-grams of each length, of so many different words, in order. Raises FileError where
        it would take too long to find them, or they are not found."""
        first = self._plain(counts[0] + 1, _UNIGRAM, "the unigrams")[:words]
        ids = np.arange(words, dtype=np.int32)[:, None]
        found = [self._listed(1, ids, first["log10"], first["backoff"])]
        root = np.array([0, words])
        shorter = _Shorter(ids, ids[:, 0].astype(np.uint64), np.zeros(words, np.int64), root)
        for n, count in enumerate(counts[1:], 2):
            last = n == len(counts)
            kind = _ENTRY if last else _WITH_BACKOFF
            table = self._buckets(count, kind, f"the {n}-grams")
            table = np.sort(table[table["key"] != 0], order="key")
            table, shorter = self._matched(n, table, shorter)
            backoff = np.zeros(len(table), np.float32) if last else table["backoff"]
            found.append(self._listed(n, shorter.ids, table["log10"], backoff))
        return found

    def _matched(
        self, n: int, table: NDArray[np.void], shorter: _Shorter
    ) -> tuple[NDArray[np.void], _Shorter]:
        """The entries, sorted by words, and what finds the n-grams that are a word longer."""
        tries = shorter.pairs()
        if tries > MOST_TRIES:
            self._file.fault(
                f"is of the probing kind, which has hashes in place of n-grams, and {tries:,} "
                f"{n}-grams would have to be tried; build it as a trie with build_binary trie, or "
                "give the ARPA file"
            )
        before, after, place = shorter.search(table["key"])
        first = np.unique(place, return_index=True)[1]
        if len(first) < len(table):
            self._file.fault(
                f"has {len(table):,} {n}-grams, of which {len(first):,} are of words and n-grams "
                "in it; it is damaged"
            )
        longer, rank = shorter.longer(before[first], after[first], table["key"])
        return table[rank], longer

    def _listed(
        self, n: int, ids: NDArray[np.int32], log10: NDArray[np.float32],
        backoff: NDArray[np.float32],
    ) -> Listed:  # fmt: skip
        if not np.isfinite(log10).all() or not (backoff < np.inf).all():
            self._file.fault(f"has a {n}-gram whose probability is no number; it is damaged")
        # The sign says whether longer n-grams end with it: all logarithms are negative.
        return Listed(ids, -np.abs(log10), backoff)


class _Shorter:
    """N-grams of one length, sorted by their ids [count, n], and the hash of each.

    `end` is the place of all words but the first of each among the n-grams one word shorter;
    `starts` are the places where those begin that begin with each of these, and the end.
    """

    def __init__(
        self, ids: NDArray[np.int32], keys: NDArray[np.uint64], end: Indices, starts: Indices
    ) -> None:
        self.ids, self._keys, self._end, self._starts = ids, keys, end, starts
        self._follow = np.diff(starts)[end] if len(ids) else end

    def pairs(self) -> int:
        """The number of n-grams, a word longer, that can be put together."""
        return int(self._follow.sum())

    def search(self, keys: NDArray[np.uint64]) -> tuple[Indices, Indices, Indices]:
        """Those whose hashes are among the given ones, which are sorted: the n-grams that they
        begin and end with, and the place of the hash."""
        sieves = _Sieve(keys)
        first = (self.ids[:, 0].astype(np.uint64) + np.uint64(1)) * _WORD
        last = self._keys * _SHORTER
        found = []
        for begin, end in self._batches():
            sizes = self._follow[begin:end]
            before = np.repeat(np.arange(begin, end), sizes)
            shift = self._starts[self._end[begin:end]] - (np.cumsum(sizes) - sizes)
            after = np.arange(len(before)) + np.repeat(shift, sizes)
            hashes = last[after] ^ first[before]
            chosen = sieves.through(hashes)
            place = np.minimum(np.searchsorted(keys, hashes[chosen]), len(keys) - 1)
            right = keys[place] == hashes[chosen]
            chosen, place = chosen[right], place[right]
            found.append((before[chosen], after[chosen], place))
        if not found:
            return (np.zeros(0, np.int64),) * 3
        before, after, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return before, after, place

    def _batches(self) -> Iterator[tuple[int, int]]:
        """Ranges of n-grams that begin about BATCH longer ones each."""
        total = np.cumsum(self._follow)
        begin = 0
        while begin < len(total) and len(total):
            before = int(total[begin - 1]) if begin else 0
            end = int(np.searchsorted(total, before + BATCH, "right"))
            yield begin, max(end, begin + 1)
            begin = max(end, begin + 1)

    def longer(
        self, before: Indices, after: Indices, keys: NDArray[np.uint64]
    ) -> tuple[_Shorter, Indices]:
        """The n-grams, a word longer, that begin and end so, with these hashes; and their order."""
        rank = np.lexsort((after, before))
        before, after = before[rank], after[rank]
        ids = np.column_stack([self.ids[before], self.ids[after, -1]])
        starts = np.searchsorted(before, np.arange(len(self.ids) + 1))
        return _Shorter(ids, keys[rank], after, starts), rank


class _Sieve:
    """Tells hashes that are surely not among the given ones from those that may be."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._there = []
        for shift in _SIEVES:
            there = np.zeros(1 << _SIEVE_BITS, bool)
            there[_bits(keys, shift)] = True
            self._there.append(there)

    def through(self, hashes: NDArray[np.uint64]) -> Indices:
        """The places of those that may be."""
        places = np.arange(len(hashes))
        for shift, there in zip(_SIEVES, self._there, strict=True):
            places = places[there[_bits(hashes[places], shift)]]
        return places


def _bits(hashes: NDArray[np.uint64], shift: int) -> Indices:
    mask = np.uint64((1 << _SIEVE_BITS) - 1)
    return ((hashes >> np.uint64(shift)) & mask).astype(np.int64)

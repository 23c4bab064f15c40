"""Binary language models as CMU Sphinx writes them."""

from __future__ import annotations

import math
import struct

import numpy as np

from tinyvox.lm import NGrams

BASE = math.log10(1.0001)
TABLE = 1 << 16


def sphinx_bytes(model: NGrams) -> bytes:
    """The file of a model that has the ends of all its n-grams."""
    tables, parts = [], []
    ngrams = [_backwards(model, n) for n in range(1, model.length + 1)]
    words = len(model.words)
    for n in range(2, model.length + 1):
        order, (ids, rank) = model.orders[n - 1], ngrams[n - 1]
        last = n == model.length
        values = [order.log10[rank] / BASE, order.backoff[rank] / BASE][: 1 if last else 2]
        codes = [_table(tables, value) for value in values]
        fields = [(ids[:, -1], words.bit_length())]
        fields += [(code, 16) for code in reversed(codes)]
        if not last:
            following = _starts(ids, ngrams[n][0])
            fields = [(np.append(column, 0), bits) for column, bits in fields]
            fields.append((following, model.counts[n].bit_length()))
        parts.append(_pack(fields, len(order) + 1))
    first = np.zeros(words + 1, [("log10", "<f4"), ("backoff", "<f4"), ("next", "<u4")])
    first["log10"][:-1] = model.orders[0].log10 / BASE
    first["backoff"][:-1] = model.orders[0].backoff / BASE
    first["next"] = _starts(ngrams[0][0], ngrams[1][0])
    text = b"".join(word.encode() + b"\0" for word in model.words)
    head = b"Trie Language Model" + bytes([model.length])
    head += struct.pack(f"<{model.length}I", *model.counts) + struct.pack("<i", 1)
    return b"".join([head, *tables, first.tobytes(), *parts, struct.pack("<i", len(text)), text])


def _backwards(model: NGrams, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The ids of n-grams from the last word to the first, sorted, and which each is."""
    ids = model.spelled(n, np.arange(model.counts[n - 1]))[:, ::-1]
    rank = np.lexsort(ids.T[::-1])
    return ids[rank], rank


def _starts(shorter: np.ndarray, longer: np.ndarray) -> np.ndarray:
    """Where the n-grams below each shorter one begin, and the end."""
    above = {tuple(row): i for i, row in enumerate(shorter.tolist())}
    parents = [above[tuple(row[:-1])] for row in longer.tolist()]
    return np.searchsorted(parents, np.arange(len(shorter) + 1))


def _table(tables: list[bytes], values: np.ndarray) -> np.ndarray:
    levels, codes = np.unique(values, return_inverse=True)
    table = np.zeros(TABLE, "<f4")
    table[: len(levels)] = levels
    tables.append(table.tobytes())
    return codes


def _pack(fields: list[tuple[np.ndarray, int]], entries: int) -> bytes:
    """Numbers of so many bits, entry by entry, least significant first."""
    total = sum(bits for _, bits in fields)
    packed, offset = 0, 0
    for i in range(len(fields[0][0])):
        place = i * total
        for column, bits in fields:
            packed |= int(column[i]) << place
            place += bits
        offset = place
    assert offset <= entries * total
    return packed.to_bytes((entries * total + 7) // 8 + 8, "little")

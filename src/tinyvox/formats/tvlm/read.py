"""The bytes of a `.tvlm` file, which the native core has checked, as a language model."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.formats.tvlm.bits import unpack, unpack_sequence
from tinyvox.formats.tvlm.write import RAW_BITS, RECORD_BITS
from tinyvox.lm import NGrams, Order

Indices = NDArray[np.int64]


class _Reader:
    """Bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return bytes(taken)

    def fields(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def sequence(self, count: int) -> Indices:
        values, size = unpack_sequence(self._data, count)
        self._data = self._data[size:]
        return values

    def codes(self, bits: int, count: int) -> NDArray[np.float32]:
        if bits == RAW_BITS:
            return np.frombuffer(self.take(4 * count), "<f4")
        table = np.frombuffer(self.take(4 << bits), "<f4")
        result: NDArray[np.float32] = table[unpack(self.take((count * bits + 7) // 8), count, bits)]
        return result

    def bit_vector(self, count: int) -> Indices:
        """The places of the ones among `count` bits."""
        records = -(-count // RECORD_BITS)
        octets = np.frombuffer(self.take(64 * records), np.uint8).reshape(records, 64)[:, 4:]
        return np.flatnonzero(np.unpackbits(octets, bitorder="little"))


def sections(data: bytes) -> dict[str, bytes]:
    """The content of each section by its tag."""
    count = struct.unpack_from("<I", data, 12)[0]
    result = {}
    for i in range(count):
        tag, _, start, size = struct.unpack_from("<4sIQQ", data, 24 + 24 * i)
        result[tag.decode()] = data[start : start + size]
    return result


def metadata_of(parts: Mapping[str, bytes]) -> dict[str, Any]:
    """What the writer said of the file. Raises ValueError where it is no JSON object."""
    found = json.loads(parts.get("META", b"{}"))
    if not isinstance(found, dict):
        raise ValueError("the metadata is no JSON object")
    return found


def model_of(parts: Mapping[str, bytes], words: Sequence[str]) -> NGrams:
    """The language model in the sections of a file. Raises ModelError where they form none."""
    below = None
    orders = []
    for n in range(1, len([tag for tag in parts if tag.startswith("NGR")]) + 1):
        below = _level(_Reader(parts[f"NGR{n}"]), below)
        orders.append(below.order)
    return NGrams(tuple(words), tuple(orders))


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length; what longer ones need to know of them."""

    order: Order
    contexts: Indices
    """The entries that are contexts."""
    first: Indices
    """Where the children of each entry of the level below begin in this one."""
    ends: Indices
    """The entries of the level below that are the ends of these, [entries]."""


def _level(reader: _Reader, below: _Level | None) -> _Level:
    entries, count, log10_bits, backoff_bits = reader.fields("<IIBB")
    context = first = ends = np.zeros(entries, np.int64)
    word = np.arange(entries)
    if below is not None:
        context, first, ends = _children(reader, below, entries)
        word = below.order.word[ends]
    log10 = reader.codes(log10_bits, entries)
    contexts = reader.bit_vector(entries if count else 0)
    backoff = np.zeros(entries, np.float32)
    backoff[contexts] = reader.codes(backoff_bits, count)
    return _Level(Order(context, word, log10, backoff), contexts, first, ends)


def _children(reader: _Reader, below: _Level, entries: int) -> tuple[Indices, Indices, Indices]:
    """The contexts of entries, the first child of each entry below, and the ends of entries."""
    stops = reader.sequence(len(below.contexts))
    sizes = np.diff(stops, prepend=0)
    context = np.repeat(below.contexts, sizes)
    counts = np.zeros(len(below.order), np.int64)
    counts[below.contexts] = sizes
    first = np.cumsum(counts) - counts
    numbers = reader.sequence(entries)
    before = np.concatenate([[0], numbers])[first[context]]
    return context, first, numbers - before + below.first[below.ends[context]]

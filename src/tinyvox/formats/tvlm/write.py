"""A language model as the bytes of a `.tvlm` file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.formats.tvlm.bits import PADDING, pack, pack_sequence
from tinyvox.formats.tvlm.words import encode_words, order_of, spelling
from tinyvox.lm import NGrams, Order, close

MAGIC = b"\x89TVL\r\n\x1a\n"
VERSION = 1
LONGEST = 6
"""Words of the longest n-grams that a file can have."""
RAW_BITS = 32
MOST_MAGNITUDE = 65536
RECORD_BITS = 480
_MOST_WORDS = 1 << 24
_MOST_CODE_BITS = 24

WEIGHTS_TAG = "WGHT"

Indices = NDArray[np.int64]
Weights = tuple[float, float]
"""Alpha and beta: what a decoder multiplies the logarithms of probabilities with, and adds for each
word."""


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length as they are written, sorted by (context, word)."""

    order: Order
    first: Indices
    """Where the children of each entry of the level below begin, and the end, [entries + 1]."""
    ends: Indices
    """The entries of the level below that are their last words, [entries]."""


def encode(
    model: NGrams, metadata: Mapping[str, Any] | None = None, weights: Weights | None = None
) -> bytes:
    """A whole file. The same model, metadata and weights always give the same bytes.

    Ends of n-grams that are missing are added (`lm.close`). Raises ModelError where the model
    exceeds the limits of the format.
    """
    _check(model)
    spellings = [spelling(word) for word in model.words]
    closed = close(model)
    order = order_of(spellings, _frequency(closed))
    levels = _levels(_renumbered(closed, order))
    sections = [("WORD", encode_words([spellings[i] for i in order.tolist()]))]
    contexts = _contexts(levels)
    for n, level in enumerate(levels):
        sequences = _sequences(levels[n - 1], contexts[n - 1], level) if n else b""
        sections.append((f"NGR{n + 1}", _encode_level(level.order, contexts[n], sequences)))
    if weights is not None:
        sections.append((WEIGHTS_TAG, encode_weights(weights)))
    if metadata:
        text = json.dumps(metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        sections.append(("META", text.encode()))
    return container(sections)


def encode_weights(weights: Weights) -> bytes:
    """The section of alpha and beta."""
    return struct.pack("<ff", *weights) + PADDING


def container(sections: Sequence[tuple[str, bytes]]) -> bytes:
    """A file of sections: header, section table, checksums, contents."""
    start = 24 + 24 * len(sections) + 4
    size = start + sum(len(data) for _, data in sections)
    if size > 1 << 32:
        raise ModelError("the language model is too large for a .tvlm file; prune it first")
    head = MAGIC + struct.pack("<IIQ", VERSION, len(sections), size)
    for tag, data in sections:
        head += tag.encode() + struct.pack("<IQQ", zlib.crc32(data), start, len(data))
        start += len(data)
    return b"".join([head, struct.pack("<I", zlib.crc32(head)), *(data for _, data in sections)])


def _check(model: NGrams) -> None:
    if model.length > LONGEST:
        raise ModelError(
            f"the language model has n-grams of {model.length} words, expected at most {LONGEST}; "
            "prune it to fewer"
        )
    least = min(float(each.min(initial=0)) for o in model.orders for each in (o.log10, o.backoff))
    most = max(float(order.backoff.max(initial=0)) for order in model.orders)
    if max(-least, most) > MOST_MAGNITUDE:
        raise ModelError(
            f"the language model has a log10 of {max((least, most), key=abs):g}, expected at most "
            f"{MOST_MAGNITUDE} from 0"
        )
    if len(model.words) > _MOST_WORDS:
        raise ModelError(
            f"the language model has {len(model.words):,} words, expected at most "
            f"{_MOST_WORDS:,}; cut its vocabulary"
        )


def _frequency(model: NGrams) -> NDArray[np.float64]:
    """How many n-grams end with each word; among equals, the more probable counts for more."""
    counts = sum(np.bincount(order.word, minlength=len(model.words)) for order in model.orders)
    return counts + 10.0 ** np.minimum(model.orders[0].log10, -0.01).astype(np.float64)


def _renumbered(model: NGrams, order: Indices) -> list[Order]:
    """The n-grams with new ids of words: `order` has the old ids by the new ones."""
    ids = np.empty(len(order), np.int64)
    ids[order] = np.arange(len(order))
    result, place = [], np.zeros(1, np.int64)
    for old in model.orders:
        context, word = place[old.context], ids[old.word]
        sorted_ = np.argsort(context * len(ids) + word)
        place = np.empty_like(sorted_)
        place[sorted_] = np.arange(len(sorted_))
        numbers = old.log10[sorted_], old.backoff[sorted_]
        result.append(Order(context[sorted_], word[sorted_].astype(np.int32), *numbers))
    return result


def _levels(orders: Sequence[Order]) -> list[_Level]:
    """Each length with the ends of its n-grams, all of which are there."""
    words = np.int64(len(orders[0]))
    levels = [_Level(orders[0], np.array([0, words]), np.zeros(words, np.int64))]
    for order in orders[1:]:
        below = levels[-1]
        first = np.searchsorted(order.context, np.arange(len(below.order) + 1))
        keys = below.order.context * words + below.order.word
        ends = np.searchsorted(keys, below.ends[order.context] * words + order.word)
        levels.append(_Level(order, first, ends))
    return levels


def _contexts(levels: Sequence[_Level]) -> list[Indices]:
    """The entries of each level that are contexts: something follows, or they have a back-off; and
    the ends of those, so that a state may go from shorter contexts to longer ones."""
    found: list[Indices] = [np.zeros(0, np.int64)]
    ends = np.zeros(0, np.int64)
    for n in range(len(levels) - 1, 0, -1):
        level, above = levels[n - 1], levels[n]
        chosen = (np.diff(above.first) > 0) | (level.order.backoff != 0)
        chosen[ends] = True
        contexts = np.flatnonzero(chosen)
        ends = level.ends[contexts] if n > 1 else ends
        found.append(contexts)
    return found[::-1]


def _encode_level(order: Order, contexts: Indices, sequences: bytes) -> bytes:
    """The section of the n-grams of one length, of which some are contexts."""
    log10_bits, log10 = _codes(order.log10)
    backoff_bits, backoff = _codes(order.backoff[contexts])
    counts = struct.pack("<IIBB", len(order), len(contexts), log10_bits, backoff_bits)
    flags = _bit_vector(contexts, len(order)) if len(contexts) else b""
    return b"".join([counts, sequences, log10, flags, backoff, PADDING])


def _sequences(below: _Level, contexts: Indices, level: _Level) -> bytes:
    """Where the children of each context end, and their words: each by its place among the children
    of the context without its first word, plus the number before the first child."""
    places = level.ends - below.first[below.ends[level.order.context]]
    steps = np.diff(places, prepend=0)
    starts = level.first[:-1][np.diff(level.first) > 0]
    steps[starts] = places[starts]
    return pack_sequence(level.first[contexts + 1]) + pack_sequence(np.cumsum(steps))


def _codes(values: NDArray[np.float32]) -> tuple[int, bytes]:
    """Numbers as codes into a codebook, or as they are where that is smaller: bits, bytes."""
    table, codes = np.unique(values + np.float32(0), return_inverse=True)  # -0 becomes 0
    bits = max(0, len(table) - 1).bit_length()
    coded = (4 << bits) + len(values) * bits // 8
    if bits > _MOST_CODE_BITS or coded >= 4 * len(values) > 0:
        return RAW_BITS, values.astype("<f4").tobytes()
    padded = np.zeros(1 << bits, "<f4")
    padded[: len(table)] = table
    return bits, padded.tobytes() + pack(codes, bits)


def _bit_vector(places: Indices, count: int) -> bytes:
    """Records of 480 bits, each after the number of ones in those before."""
    records = -(-count // RECORD_BITS)
    bits = np.zeros((records, RECORD_BITS), np.uint8)
    bits.reshape(-1)[places] = 1
    ones = bits.sum(1, dtype=np.int64)
    before = (np.cumsum(ones) - ones).astype("<u4")
    octets = np.packbits(bits, 1, "little")
    return np.concatenate([before[:, None].view(np.uint8), octets], 1).tobytes()

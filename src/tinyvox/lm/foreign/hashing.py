"""The hash by which KenLM knows words, of many words at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FACTOR = np.uint64(0xC6A4A7935BD1E995)
_SHIFT = np.uint64(47)


def murmur(words: Sequence[bytes]) -> NDArray[np.uint64]:
    """MurmurHash64A of each word with seed 0, [len(words)].

    Source: Austin Appleby, MurmurHash2, 64-bit version for 64-bit processors.
    """
    result = np.zeros(len(words), np.uint64)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        text = b"".join([words[i] for i in places.tolist()])
        result[places] = _same_length(np.frombuffer(text, np.uint8).reshape(len(places), length))
    return result


def _same_length(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes of words of one length, uint8 [words, length]."""
    count, length = text.shape
    whole = length // 8 * 8
    padded = np.zeros((count, whole + 8), np.uint8)
    padded[:, :length] = text
    blocks = padded.view("<u8")
    found = np.full(count, np.uint64(length)) * _FACTOR
    for column in range(whole // 8):
        mixed = blocks[:, column] * _FACTOR
        found = (found ^ ((mixed ^ (mixed >> _SHIFT)) * _FACTOR)) * _FACTOR
    if length > whole:
        found = (found ^ blocks[:, -1]) * _FACTOR
    found = (found ^ (found >> _SHIFT)) * _FACTOR
    return found ^ (found >> _SHIFT)

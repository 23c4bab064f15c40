"""Words out of a lexicon in OpenFst's constant format: paths of labels from the start to an end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyvox.lm.foreign.bytes import Bytes

MAGIC = 2125659606
ALIGNED = 4
"""The flag of files whose parts begin at multiples of 16 bytes."""
SYMBOLS = 3
"""The flags of tables of symbols, which lexicons of scorers do not have."""
STATE = np.dtype([("final", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("epsilons", "<u4", 2)])
ARC = np.dtype([("label", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("target", "<i4")])
LONGEST = 1000
"""The most labels of a word."""
MOST = 20_000_000
"""The most arcs that are followed in all words together: a lexicon of a million words."""


def read_lexicon(file: Bytes, place: int) -> Iterator[tuple[int, ...]]:
    """The words of a lexicon that begins at a place of a file, each as labels without zeros.

    Raises FileError for what is damaged or of another kind, and where words do not end.
    """
    start, states, arcs = _parts(file, place)
    final = states["final"] != np.inf
    first, count = states["first"].astype(np.int64), states["arcs"].astype(np.int64)
    if not 0 <= start < len(states) or (first + count > len(arcs)).any():
        file.fault("has a lexicon with arcs that are not there; it is damaged")
    if len(arcs) and not (0 <= arcs["target"].min() <= arcs["target"].max() < len(states)):
        file.fault("has a lexicon with states that are not there; it is damaged")
    ranges = list(zip(first.tolist(), (first + count).tolist(), strict=True))
    yield from _paths(file, start, final.tolist(), ranges, arcs)


def _paths(
    file: Bytes, start: int, final: list[bool], ranges: list[tuple[int, int]], arcs: Any
) -> Iterator[tuple[int, ...]]:
    labels, targets = arcs["label"].tolist(), arcs["target"].tolist()
    steps = 0
    pending: list[tuple[int, tuple[int, ...]]] = [(start, ())]
    while pending:
        state, word = pending.pop()
        if final[state]:
            yield word
        begin, end = ranges[state]
        steps += end - begin
        if steps > MOST or len(word) > LONGEST:
            file.fault(f"has a lexicon of over {MOST:,} arcs, or words of over {LONGEST} letters")
        for arc in range(end - 1, begin - 1, -1):
            label = labels[arc]
            pending.append((targets[arc], (*word, label) if label else word))


def _parts(file: Bytes, place: int) -> tuple[int, Any, Any]:
    """The first state, all states and all arcs."""
    names = []
    if file.number(place, "<i4", "the lexicon") != MAGIC:
        file.fault(f"has no lexicon of OpenFst at byte {place:,}; it is damaged")
    place += 4
    for _ in range(2):
        length = file.number(place, "<i4", "the lexicon")
        names.append(file.slice(place + 4, min(length, 64), "the lexicon").tobytes())
        place += 4 + length
    _, flags = file.array(place, "<i4", 2, "the lexicon").tolist()
    if names != [b"const", b"standard"] or flags & SYMBOLS:
        file.fault(f"has a lexicon of the kind {names}, expected const, standard, no symbols")
    start, states, arcs = file.array(place + 16, "<i8", 3, "the lexicon").tolist()
    place = _aligned(place + 40, flags)
    states = file.array(place, STATE, states, "the states of the lexicon")
    place = _aligned(place + states.nbytes, flags)
    return start, states, file.array(place, ARC, arcs, "the arcs of the lexicon")


def _aligned(place: int, flags: int) -> int:
    return -(-place // 16) * 16 if flags & ALIGNED else place

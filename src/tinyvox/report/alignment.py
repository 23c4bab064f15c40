"""Texts word by word: which words of one are not in the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word; whether it is not in the text compared with, and whether it has changed."""

    text: str
    wrong: bool = False
    changed: bool = False


def unmatched(one: Sequence[str], other: Sequence[str]) -> tuple[set[int], set[int], int]:
    """The places in each list without an equal partner in the other, by an alignment with the
    fewest edits (Levenshtein 1966), and that number of edits."""
    costs = _costs(one, other)
    first, second = set(range(len(one))), set(range(len(other)))
    i, j = len(one), len(other)
    while i and j:
        here = costs[i][j]
        if one[i - 1] == other[j - 1] and here == costs[i - 1][j - 1]:
            i, j = i - 1, j - 1
            first.discard(i)
            second.discard(j)
        elif here == costs[i - 1][j - 1] + 1:
            i, j = i - 1, j - 1
        elif here == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return first, second, costs[-1][-1]


def _costs(one: Sequence[str], other: Sequence[str]) -> list[list[int]]:
    rows = [list(range(len(other) + 1))]
    for i, word in enumerate(one, start=1):
        above, row = rows[-1], [i]
        for j, against in enumerate(other, start=1):
            same = above[j - 1] + (word != against)
            row.append(min(same, above[j] + 1, row[-1] + 1))
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Texts:
    """An utterance as it was said and heard. `said` marks what the small model misses, `heard` what
    it has wrong and what is not as the original has it, `before` what the original has wrong."""

    said: tuple[Word, ...]
    heard: tuple[Word, ...]
    before: tuple[Word, ...] | None


def compared(reference: str, text: str, original: str | None) -> Texts:
    """The three texts, with their words marked."""
    said, heard = reference.split(), text.split()
    missed, wrong, _ = unmatched(said, heard)
    changed: set[int] = set()
    before = None
    if original is not None:
        words = original.split()
        changed = unmatched(words, heard)[1]
        before = _marked(words, unmatched(said, words)[1])
    return Texts(_marked(said, missed), _marked(heard, wrong, changed), before)


def _marked(
    words: Sequence[str], wrong: Collection[int], changed: Collection[int] = ()
) -> tuple[Word, ...]:
    return tuple(Word(word, i in wrong, i in changed) for i, word in enumerate(words))

"""Edits between two texts, and the characters of a reference that a model cannot give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jiwer

from tinyvox.errors import DataError
from tinyvox.speech import single_spaced

Normalize = Literal["none", "lower"]
"""What is done to reference and hypothesis before they are compared."""


def normalized(text: str, how: Normalize) -> str:
    """A text as it is compared: one space between words; in lower case if asked for."""
    return single_spaced(text.lower() if how == "lower" else text)


def check_normalize(how: str) -> None:
    """Raise DataError where this is no way to normalize."""
    if how not in get_args(Normalize):
        known = ", ".join(get_args(Normalize))
        raise DataError(f"normalize is {how!r}, expected {known}")


def count_errors(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    """Word edits, reference words, character edits, and reference characters of one utterance.

    White space of any kind separates words, and counts as one space among the characters. With an
    empty reference, all of the hypothesis is inserted.
    """
    reference, hypothesis = single_spaced(reference), single_spaced(hypothesis)
    if not reference:
        return len(hypothesis.split()), 0, len(hypothesis), 0
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return (
        words.substitutions + words.deletions + words.insertions,
        words.substitutions + words.deletions + words.hits,
        characters.substitutions + characters.deletions + characters.insertions,
        characters.substitutions + characters.deletions + characters.hits,
    )


def edits_of_case(reference: str, hypothesis: str) -> int:
    """The word edits that there would not be if both texts were in lower case."""
    lower = reference.lower(), hypothesis.lower()
    if lower == (reference, hypothesis):
        return 0
    return max(0, count_errors(reference, hypothesis)[0] - count_errors(*lower)[0])


@dataclass(frozen=True)
class UnknownCharacters:
    """Characters of references that no token can give, and how often each occurs, most first.

    `by_case` is the number of those that a token gives in lower case.
    """

    counts: tuple[tuple[str, int], ...] = ()
    by_case: int = 0

    def __str__(self) -> str:
        """`'A' 12 times, 'B' once, and 3 others`."""
        shown = [f"{c!a} {'once' if n == 1 else f'{n} times'}" for c, n in self.counts[:8]]
        more = len(self.counts) - len(shown)
        return ", ".join(shown) + (f", and {more} others" if more else "")

    @property
    def hint(self) -> str:
        """What to do about them."""
        total = sum(count for _, count in self.counts)
        if self.by_case < total:
            return "take them out of the transcripts, or spell them out"
        return "`--normalize lower` compares in lower case"


def unknown_characters(
    references: Iterable[str] | Counter[str], tokens: Sequence[str]
) -> UnknownCharacters:
    """The characters of the references, as they are compared, that none of the tokens has.

    References are texts, or how often each character is in them.
    """
    known = set().union(*tokens)
    if not isinstance(references, Counter):
        references = Counter(c for text in references for c in text)
    counts = Counter({c: n for c, n in references.items() if c not in known})
    by_case = sum(n for c, n in counts.items() if set(c.lower()) <= known)
    return UnknownCharacters(tuple(counts.most_common()), by_case)

"""Checks of what a beam search is given, before the native core sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_32, MOST_64 = 2**32 - 1, 2**64 - 1
"""The largest numbers that the native core takes."""
LARGEST = float(np.finfo(np.float32).max)


def whole_number(name: str, value: Any, least: int = 0, most: int = MOST_32) -> int:
    """A whole number within bounds. Raises ValueError for anything else."""
    if not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, expected a whole number from {least:,} to {most:,}")
    return int(value)


def real_number(name: str, value: Any) -> float:
    """A finite number, of those that float32 has. Raises ValueError for anything else."""
    if not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} is {value!r}, expected a finite number")
    number = float(value)
    if not abs(number) <= LARGEST:
        raise ValueError(f"{name} is {value!r}, expected a finite number")
    return number


def number_of_texts(count: Any) -> int:
    """How many texts are asked for. Raises ValueError where it is no such number."""
    return whole_number("the number of texts", count)


def one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    """One of a few words. Raises ValueError for anything else."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
    return value


def hot_words(given: Mapping[str, float]) -> dict[str, float]:
    """Hot words and their boosts, as `hot_word` has them. Raises ValueError for what is no text, or
    no number."""
    return {
        hot_word(word): real_number(f"the boost of the hot word {word!r}", boost)
        for word, boost in given.items()
    }


def hot_word(given: str) -> str:
    """A hot word, with one space between the words of a phrase. Raises ValueError for no text."""
    if not isinstance(given, str):
        raise ValueError(f"the hot word {given!r} is no text")
    return " ".join(given.split())


def single_words(given: Sequence[str]) -> list[str]:
    """Words as a lexicon has them. Raises ValueError for one that is none: it could not be said."""
    for word in given:
        if not isinstance(word, str) or word.split() != [word]:
            raise ValueError(f"words hold {word!r}, expected single words, without spaces")
    return list(given)

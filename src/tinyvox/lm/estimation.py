"""A language model from text: interpolated Kneser-Ney with modified discounts.

Sources: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1998,
section 3 (the estimate); Heafield et al., "Scalable modified Kneser-Ney language model estimation",
2013 (what is done at the ends of sentences and where n-grams are left out).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import DataError
from tinyvox.lm.assembly import NEVER
from tinyvox.lm.ngrams import (
    ABSENT,
    END_ID,
    SPECIAL_WORDS,
    START_ID,
    UNKNOWN_ID,
    Doubles,
    Ids,
    Indices,
    NGrams,
    Order,
)
from tinyvox.progress import Progress, Update, silent

FALLBACK = (0.0, 0.5, 1.0, 1.5)
"""Discounts of counts 0, 1, 2, and 3 or more, where a text is too small to estimate them."""


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length in a text, sorted by (context, word). All arrays are [count].

    `suffix` is the n-gram without its first word, as an index among the shorter ones (for a unigram
    the word itself); `raw` is how often it stands in the text. `adjusted` is the number of
    different words in front of it, or `raw` for the longest n-grams and for those that begin a
    sentence.
    """

    context: Indices
    word: Ids
    suffix: Indices
    raw: Indices
    adjusted: Indices


def tokenize(
    sentences: Iterable[str], most_words: int | None = None
) -> tuple[tuple[str, ...], Ids]:
    """The vocabulary of a text, in order of frequency, and the ids of its sentences as tokens.

    With `most_words`, the most frequent words alone; the others are `<unk>`. Raises DataError for
    a text without words, and for one that holds `<s>` or `</s>`.
    """
    ids = {word: i for i, word in enumerate(SPECIAL_WORDS)}
    found = [START_ID]
    for number, sentence in enumerate(sentences, 1):
        words = [ids.setdefault(word, len(ids)) for word in sentence.split()]
        if START_ID in words or END_ID in words:
            raise DataError(f"sentence {number} holds <s> or </s>; take out what marks its ends")
        found += words
        found += (END_ID, START_ID)
    tokens = np.array(found[:-1], np.int32)
    if len(tokens) == 0:
        raise DataError("the text has no words")
    first = len(SPECIAL_WORDS)
    frequency = np.bincount(tokens, minlength=len(ids))[first:]
    rank = np.argsort(-frequency, kind="stable")[:most_words]
    new = np.full(len(ids), UNKNOWN_ID, np.int32)
    new[:first] = range(first)
    new[rank + first] = np.arange(len(rank)) + first
    names = list(ids)
    return (*SPECIAL_WORDS, *(names[i + first] for i in rank.tolist())), new[tokens]


def count_ngrams(tokens: Ids, words: int, length: int, progress: Progress = silent) -> list[Counts]:
    """All n-grams of up to `length` words in a text of a vocabulary of so many words."""
    found: list[Counts] = []
    before = np.zeros(len(tokens), np.int64)
    ends = tokens.astype(np.int64)
    raw = np.bincount(tokens, minlength=words)
    unigrams = np.arange(words, dtype=np.int32)
    begins = unigrams == START_ID
    parts = [(np.zeros(words, np.int64), unigrams, np.arange(words), raw, begins)]
    for n in range(2, length + 1):
        progress(Update("counting", n, length))
        before = np.concatenate([[ABSENT], ends[:-1]])
        inside = np.flatnonzero((before != ABSENT) & (tokens != START_ID))
        keys, place, raw = np.unique(
            before[inside] * words + tokens[inside], return_inverse=True, return_counts=True
        )
        suffix = np.zeros(len(keys), np.int64)
        suffix[place] = ends[inside]
        ends = np.full(len(tokens), ABSENT)
        ends[inside] = place
        context = keys // words
        begins = begins[context]
        parts.append((context, (keys % words).astype(np.int32), suffix, raw, begins))
    for n, (context, word, suffix, raw, begins) in enumerate(parts, 1):
        adjusted = raw
        if n < length:
            different = np.bincount(parts[n][2], minlength=len(word))
            adjusted = np.where(begins, raw, different)
        if n == 1:
            adjusted = np.where(begins, 0, adjusted)
        found.append(Counts(context, word, suffix, raw, adjusted))
    return found


def discounts(adjusted: Indices) -> NDArray[np.float64] | None:
    """The discounts of counts 0, 1, 2, and 3 or more; None where the counts give none.

    Chen and Goodman, equation 26: n_k n-grams have the count k, and D_k = k - (k + 1) Y
    n_(k+1) / n_k with Y = n_1 / (n_1 + 2 n_2).
    """
    n = np.bincount(np.minimum(adjusted, 5), minlength=6).astype(np.float64)
    if not n[1:4].all():
        return None
    k = np.arange(1, 4)
    result = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
    return np.concatenate([[0], result]) if ((result >= 0) & (result <= k)).all() else None


def estimate(
    sentences: Iterable[str],
    length: int = 3,
    cutoffs: Sequence[int] = (),
    most_words: int | None = None,
    progress: Progress = silent,
) -> NGrams:
    """A model of n-grams of up to `length` words from sentences, words separated by white space.

    `cutoffs` are counts for each length, from 1, at or below which n-grams are left out; the last
    one holds for all longer n-grams, and none may be lower than the one before. `most_words` is the
    size of the vocabulary. `progress` is told where discounts could not be estimated. Raises
    DataError for a text without words, and for cut-offs that cannot be used.
    """
    thresholds = _thresholds(cutoffs, length)
    words, tokens = tokenize(sentences, most_words)
    counts = count_ngrams(tokens, len(words), length, progress)
    kept: Indices = np.arange(len(words))
    orders: list[Order] = []
    lower: Doubles = np.full(len(words), 1 / (len(words) - 1))
    shares = np.ones(1)
    fallen_back: list[int] = []
    for n, (each, threshold) in enumerate(zip(counts, thresholds, strict=True), 1):
        progress(Update("estimating", n, length))
        discount = discounts(each.adjusted)
        if discount is None:
            discount = np.array(FALLBACK)
            fallen_back.append(n)
        keep = each.raw > threshold if n > 1 else np.ones(len(words), bool)
        probability, share = _interpolated(each, discount, keep, len(shares), lower)
        if orders:
            orders[-1] = _with_backoffs(orders[-1], share[kept])
        orders.append(_order(each, keep, kept, probability))
        lower, kept, shares = probability, np.flatnonzero(keep), probability
    model = NGrams(words, tuple(orders))
    if fallen_back:
        progress(Update("estimating", length, length, note=_small_text(fallen_back)))
    return model


def _thresholds(cutoffs: Sequence[int], length: int) -> list[int]:
    given = [*cutoffs] or [0]
    if len(given) > length or given[0] != 0 or sorted(given) != given or length < 1:
        raise DataError(
            f"cut-offs are {', '.join(map(str, given))} for n-grams of up to {length} words; "
            "expected 0 for single words, at most one for each length, none below the one before"
        )
    return given + [given[-1]] * (length - len(given))


def _small_text(lengths: list[int]) -> str:
    which = ", ".join(f"{n}-grams" for n in lengths)
    return f"the text is too small to estimate the discounts of {which}: taking 0.5, 1 and 1.5"


def _interpolated(
    counts: Counts, discount: Doubles, keep: NDArray[np.bool_], contexts: int, lower: Doubles
) -> tuple[Doubles, Doubles]:
    """The probability of each n-gram, and for each context what is left to shorter n-grams."""
    taken = np.where(keep, discount[np.minimum(counts.adjusted, 3)], counts.adjusted)
    total = np.bincount(counts.context, counts.adjusted, contexts)
    left = np.bincount(counts.context, taken, contexts)
    share = np.divide(left, total, out=np.ones(contexts), where=total > 0)
    own = np.divide(counts.adjusted - taken, total[counts.context])
    return own + share[counts.context] * lower[counts.suffix], share


def _with_backoffs(order: Order, share: Doubles) -> Order:
    return replace(order, backoff=np.log10(share).astype(np.float32))


def _order(counts: Counts, keep: NDArray[Any], kept: Indices, probability: Doubles) -> Order:
    """The n-grams that are kept, whose contexts are counted among those that are kept."""
    word = counts.word[keep]
    log10 = np.log10(np.where(word == START_ID, 10**NEVER, probability[keep]))
    zeros = np.zeros(len(word), np.float32)
    return Order(np.searchsorted(kept, counts.context[keep]), word, log10.astype(np.float32), zeros)

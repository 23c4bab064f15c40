"""Putting n-grams that come in any order together to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.lm.ngrams import (
    ABSENT,
    SPECIAL_WORDS,
    UNKNOWN,
    NGrams,
    Order,
)

NEVER = -99.0
"""The log10 probability of what never comes: that of `<s>`, and of a missing `</s>`."""
UNSEEN = -100.0
"""The log10 probability of unknown words where a model says nothing of them, as in KenLM."""
LOWEST = -120.0
"""Probabilities and back-offs of zero, whose log10 is minus infinity, become this."""
ROUNDING = 0.01
"""By how much log10 of a probability may lie above 0; it becomes 0."""


class DuplicateError(ModelError):
    """An n-gram is there twice; `place` is its place in the order of arrival."""

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True)
class Listed:
    """N-grams of one length in any order: ids [count, n], and two values [count] of each."""

    words: NDArray[Any]
    log10: NDArray[Any]
    backoff: NDArray[Any]


def vocabulary(words: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The words with `<unk>`, `<s>` and `</s>` in front, and the new id of each given word.

    `<UNK>` is taken for `<unk>` where there is none. Raises DuplicateError for a word that is there
    twice.
    """
    known = [UNKNOWN if w == "<UNK>" and UNKNOWN not in words else w for w in words]
    names = {name: i for i, name in enumerate(dict.fromkeys([*SPECIAL_WORDS, *known]))}
    ids = np.array([names[w] for w in known], np.int64)
    first = np.unique(ids, return_index=True)[1]
    if len(first) < len(ids):
        place = int(np.setdiff1d(np.arange(len(ids)), first)[0])
        raise DuplicateError(f"the word {words[place]!r} is there twice", place)
    return tuple(names), ids


def unigrams(count: int, ids: NDArray[Any], log10: NDArray[Any], backoff: NDArray[Any]) -> Order:
    """The unigrams of a vocabulary of so many words, of which `ids` have the values [len(ids)]."""
    full = np.full(count, NEVER, np.float32)
    full[0] = UNSEEN
    weights = np.zeros(count, np.float32)
    full[ids], weights[ids] = tamed(log10), tamed(backoff)
    return Order(np.zeros(count, np.int64), np.arange(count, dtype=np.int32), full, weights)


def tamed(log10: NDArray[Any]) -> NDArray[Any]:
    """The values, with a floor in place of minus infinity."""
    values: NDArray[Any] = np.maximum(log10, LOWEST)
    return values


def assemble(words: tuple[str, ...], first: Order, longer: Sequence[Listed]) -> NGrams:
    """A model of unigrams and of longer n-grams, which come in any order.

    An n-gram whose first words are not in the model brings these along, with the probability that
    the model gives them anyway. Raises DuplicateError for an n-gram that is there twice.
    """
    builder = Builder(words, first)
    for each in longer:
        builder.add(each)
    return builder.finish()


class Builder:
    """A model that grows by one order at a time."""

    def __init__(self, words: tuple[str, ...], first: Order) -> None:
        self._words = words
        self._orders = [first]
        self._inserted: list[NDArray[np.bool_]] = [np.zeros(len(first), bool)]

    def add(self, listed: Listed) -> None:
        """Take the n-grams that are one word longer than the longest so far."""
        context = self.find(listed.words[:, :-1])
        context = self.with_strays(context, listed.words[context == ABSENT, :-1])
        self.add_resolved(context, listed.words[:, -1], listed.log10, listed.backoff)

    def with_strays(self, context: NDArray[Any], strays: NDArray[Any]) -> NDArray[np.int64]:
        """The indices of contexts [count], with those that are ABSENT put into the model.

        `strays` are the words of these, [absent, n], in their order. All other indices may change.
        """
        absent = context == ABSENT
        if not absent.any():
            return context
        moved = self._insert(np.unique(strays, axis=0))
        result = context.copy()
        result[~absent] = moved[context[~absent]]
        result[absent] = self.find(strays)
        return result

    def add_resolved(
        self,
        context: NDArray[Any],
        word: NDArray[Any],
        log10: NDArray[Any],
        backoff: NDArray[Any],
    ) -> None:
        """The same, for n-grams whose contexts are known. All arrays are [count]."""
        rank = np.argsort(context * len(self._words) + word, kind="stable")
        order = Order(context[rank], word[rank], tamed(log10)[rank], tamed(backoff)[rank])
        same = (np.diff(order.context) == 0) & (np.diff(order.word) == 0)
        if same.any():
            place = int(rank[1:][same].min())
            raise DuplicateError("the n-gram is there twice", place)
        self._orders.append(order)
        self._inserted.append(np.zeros(len(order), bool))

    def find(self, ngrams: NDArray[Any]) -> NDArray[np.int64]:
        """The index of each n-gram [batch, n] among those of its length, or ABSENT."""
        return self.model().find(ngrams)

    def model(self) -> NGrams:
        """What is there so far, as a model."""
        last = self._orders[-1]
        last = replace(last, backoff=np.zeros(len(last), np.float32))
        return NGrams(self._words, (*self._orders[:-1], last))

    def _insert(self, ngrams: NDArray[Any]) -> NDArray[np.int64]:
        """Add n-grams [count, n] to their order, and what they need to the shorter ones.

        Returns the new index of each n-gram that was there before.
        """
        n = ngrams.shape[1]
        context = self.find(ngrams[:, :-1])
        context = self.with_strays(context, ngrams[context == ABSENT, :-1])
        old, zeros = self._orders[n - 1], np.zeros(len(ngrams))
        joined = [
            np.concatenate(pair)
            for pair in (
                (old.context, context),
                (old.word, ngrams[:, -1]),
                (old.log10, zeros),
                (old.backoff, zeros),
                (self._inserted[n - 1], zeros == 0),
            )
        ]
        rank = np.lexsort((joined[1], joined[0]))
        self._orders[n - 1] = Order(*(each[rank] for each in joined[:4]))
        self._inserted[n - 1] = joined[4][rank]
        moved = np.argsort(rank)[: len(old)]
        if n < len(self._orders):
            longer = self._orders[n]
            self._orders[n] = replace(longer, context=moved[longer.context])
        return moved

    def finish(self) -> NGrams:
        """The whole model. Its longest n-grams have no back-offs, whatever was given."""
        for n, inserted in enumerate(self._inserted, 1):
            if inserted.any():
                self._score(n, np.flatnonzero(inserted))
        return self.model()

    def _score(self, n: int, entries: NDArray[np.int64]) -> None:
        """Give inserted n-grams the probability that they have by the shorter ones."""
        order = self._orders[n - 1]
        backoff = self._orders[n - 2].backoff[order.context[entries]]
        log10 = order.log10.copy()
        log10[entries] = self.model().lower(n, entries) + backoff
        self._orders[n - 1] = replace(order, log10=log10)

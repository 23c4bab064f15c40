"""Language models of several sources mixed to one: a weighted sum of their probabilities.

Sources: Jelinek and Mercer, "Interpolated estimation of Markov source parameters from sparse data",
1980; that the sum is written out as one back-off model: Stolcke, "SRILM", 2002, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.lm.assembly import NEVER
from tinyvox.lm.closure import close
from tinyvox.lm.ngrams import (
    SPECIAL_WORDS,
    START_ID,
    UNKNOWN_ID,
    Doubles,
    Ids,
    Indices,
    NGrams,
    Order,
)
from tinyvox.lm.pruning import normalized

ROUNDS, ENOUGH = 1000, 1e-6
"""Rounds of estimating shares, and the change after which they are good."""


def mix(models: Sequence[NGrams], shares: Sequence[float]) -> NGrams:
    """One model whose n-grams are those of all, with the sums of their probabilities by shares.

    Its words are those of all. A word that a model does not have gets an equal part of what that
    model gives to unknown words. Shares are scaled to sum to one. Raises ModelError for shares that
    do not fit the models.
    """
    weights = np.array(scaled(shares, len(models)))
    models = with_all_words(models)
    places = [np.zeros(1, np.int64) for _ in models]
    spelled: list[Ids] = []
    orders: list[Order] = []
    for n in range(1, max(model.length for model in models) + 1):
        context, word, places = _union(models, places, n)
        ends = word[:, None]
        spelled.append(np.column_stack([spelled[-1][context], ends]) if spelled else ends)
        parts = [_probability(model, spelled[-1]) for model in models]
        log10 = _log10(weights @ np.array(parts))
        log10[spelled[-1][:, -1] == START_ID] = NEVER
        zeros = np.zeros(len(word), np.float32)
        orders.append(Order(context, word, log10, zeros))
    return normalized(NGrams(models[0].words, tuple(orders)))


def scaled(shares: Sequence[float], models: int) -> list[float]:
    """Shares that sum to one. Raises ModelError where they do not fit so many models."""
    total = sum(shares)
    if len(shares) != models or not shares or min(shares) < 0 or not 0 < total < math.inf:
        raise ModelError(
            f"the shares are {', '.join(f'{share:g}' for share in shares)}, expected one for each "
            f"of {models} models, none below 0, and one above"
        )
    return [share / total for share in shares]


def best_shares(models: Sequence[NGrams], sentences: Iterable[str]) -> list[float]:
    """The shares with which a mix foresees a text best; by expectation and maximization.

    Words that no model has do not count. Raises ModelError where that leaves none.
    """
    models = with_all_words(models)
    tokens = models[0].encode(sentences)
    counted = (tokens != START_ID) & (tokens != UNKNOWN_ID)
    if not counted.any():
        raise ModelError("the text has no word that the language models know")
    probability = np.array([10 ** model.score(tokens)[counted] for model in models])
    shares = np.full(len(models), 1 / len(models))
    for _ in range(ROUNDS):
        parts = shares[:, None] * probability
        before, shares = shares, (parts / parts.sum(0)).mean(1)
        if np.abs(shares - before).max() < ENOUGH:
            break
    return [float(share) for share in shares]


def with_all_words(models: Sequence[NGrams]) -> list[NGrams]:
    """The models with the words of all, in one order."""
    words = tuple(dict.fromkeys([*SPECIAL_WORDS, *(w for model in models for w in model.words)]))
    ids = {word: i for i, word in enumerate(words)}
    return [_widened(close(model), words, ids) for model in models]


def _widened(model: NGrams, words: tuple[str, ...], ids: dict[str, int]) -> NGrams:
    """The model with more words, which share what it gives to unknown ones."""
    new = np.array([ids[word] for word in model.words])
    first = model.orders[0]
    missing = len(words) - len(model.words)
    log10 = np.full(len(words), first.log10[UNKNOWN_ID] - np.log10(missing + 1), np.float32)
    log10[new[1:]] = first.log10[1:]
    backoff = np.zeros(len(words), np.float32)
    backoff[new] = first.backoff
    orders = [
        Order(np.zeros(len(words), np.int64), np.arange(len(words), dtype=np.int32), log10, backoff)
    ]
    place: Indices = new.astype(np.int64)
    for order in model.orders[1:]:
        context, word = place[order.context], new[order.word].astype(np.int32)
        rank = np.lexsort((word, context))
        orders.append(Order(context[rank], word[rank], order.log10[rank], order.backoff[rank]))
        place = np.empty_like(rank)
        place[rank] = np.arange(len(rank))
    wide = NGrams(words, tuple(orders))
    return (
        normalized(wide) if missing else wide
    )  # n-grams may end with <unk>, of which less is left


def _union(
    models: Sequence[NGrams], places: Sequence[Indices], n: int
) -> tuple[Indices, Ids, list[Indices]]:
    """The n-grams of n words of all models: contexts and last words; and for each model where its
    n-grams are among them. `places` has the same for the contexts."""
    count = len(models[0].words)
    keys = [
        place[order.context] * count + order.word
        for place, order in zip(places, (_order(model, n) for model in models), strict=True)
    ]
    every = np.unique(np.concatenate(keys))
    context, word = np.divmod(every, count)
    return context, word.astype(np.int32), [np.searchsorted(every, each) for each in keys]


def _order(model: NGrams, n: int) -> Order:
    """The n-grams of n words; none for a model whose longest are shorter."""
    if n <= model.length:
        return model.orders[n - 1]
    none = np.zeros(0)
    return Order(none.astype(np.int64), none.astype(np.int32), none, none)  # type: ignore[arg-type]


def _probability(model: NGrams, ngrams: Ids) -> Doubles:
    """The probability of the last words of n-grams [count, n] after the others, [count]."""
    n = min(ngrams.shape[1], model.length)
    ends = [model.find(ngrams[:, -k:]) for k in range(1, n + 1)]
    contexts = [model.find(ngrams[:, -k:-1]) for k in range(2, n + 1)]
    result: Doubles = 10 ** model.backed_off(ends, contexts)
    return result


def _log10(probability: Doubles) -> NDArray[np.float32]:
    return np.minimum(np.log10(probability), 0).astype(np.float32)

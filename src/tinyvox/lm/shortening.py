"""Fewer words: those that are left out become the unknown word."""

from __future__ import annotations

import numpy as np

from tinyvox.lm.frequencies import Frequencies
from tinyvox.lm.ngrams import SPECIAL_WORDS, UNKNOWN_ID, Indices, NGrams, Order
from tinyvox.lm.pruning import normalized


def with_words(model: NGrams, kept: Indices) -> NGrams:
    """The model of the words with these ids and the special ones, which all have ids of their own.

    The probability of the words that are left out goes to `<unk>`, and after longer contexts to
    all words that back off, so that every context sums to one.
    """
    chosen = np.zeros(len(model.words), bool)
    chosen[: len(SPECIAL_WORDS)] = True
    chosen[kept] = True
    words = tuple(word for word, stays in zip(model.words, chosen.tolist(), strict=True) if stays)
    ids = np.cumsum(chosen) - 1
    first = model.orders[0]
    log10 = first.log10.astype(np.float64)
    lost = (10.0 ** log10[~chosen]).sum()
    log10[UNKNOWN_ID] = np.log10(10.0 ** log10[UNKNOWN_ID] + lost)
    zeros = np.zeros(len(words), np.int64)
    values = log10.astype(np.float32)[chosen]
    orders = [Order(zeros, np.arange(len(words), dtype=np.int32), values, first.backoff[chosen])]
    stays, places = chosen, ids
    for order in model.orders[1:]:
        stays = stays[order.context] & chosen[order.word]
        context, word = places[order.context[stays]], ids[order.word[stays]].astype(np.int32)
        orders.append(Order(context, word, order.log10[stays], order.backoff[stays]))
        places = np.cumsum(stays) - 1
    return normalized(NGrams(words, tuple(orders)))


def most_frequent(model: NGrams, count: int, frequencies: Frequencies) -> Indices:
    """The ids of so many words that come most often; special words do not count."""
    first = len(SPECIAL_WORDS)
    often = frequencies[0][first:] if frequencies else model.orders[0].log10[first:]
    return np.sort(np.argsort(-often, kind="stable")[:count]) + first

"""Leaving out the n-grams that matter least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.frequencies import Frequencies, sums
from tinyvox.lm.ngrams import START_ID, Doubles, Indices, NGrams, Order

FULL = 0.9999
"""What the n-grams of a context have together, at most."""
TINY = 1e-9
"""Masses below this are taken for it, so that no logarithm is infinite."""


def losses(model: NGrams, frequencies: Frequencies) -> list[Doubles]:
    """For each length from 2, what the model loses if an n-gram is left out: relative entropy in
    nats for each word, or that of the most important n-gram that begins or ends with it, [count].

    Source: Stolcke, "Entropy-based pruning of backoff language models", 1998, equations 5 to 7;
    histories have the frequencies that are given. The model must have the ends of all n-grams.
    """
    found = [_losses(model, n, frequencies[n - 2]) for n in range(2, model.length + 1)]
    for n in range(len(found) - 1, 0, -1):
        begins, ends = model.orders[n + 1].context, model.suffixes[n + 1][-1]
        np.maximum.at(found[n - 1], begins, found[n])
        np.maximum.at(found[n - 1], ends, found[n])
    return found


def _losses(model: NGrams, n: int, frequency: Doubles) -> Doubles:
    """The same for n-grams of n words, of each alone."""
    order = model.orders[n - 1]
    own = 10.0 ** order.log10.astype(np.float64)
    own[order.word == START_ID] = 0
    lower = model.lower(n)
    shorter = 10.0**lower
    contexts = len(model.orders[n - 2])
    left = np.maximum(1 - np.bincount(order.context, own, contexts), TINY)
    below = np.maximum(1 - np.bincount(order.context, shorter, contexts), TINY)
    left, below = left[order.context], below[order.context]
    weight = np.log((left + own) / (below + shorter))  # of the back-off without this n-gram
    change = own * (np.log(10) * (lower - order.log10) + weight)
    change += left * (weight - np.log(left / below))
    loss: Doubles = np.maximum(0, -frequency[order.context] * change)
    return loss


def threshold_for(values: Sequence[Doubles], count: int) -> float:
    """The loss at and above which at most `count` n-grams of 2 and more words lie."""
    every = np.concatenate(list(values))
    if count >= len(every):
        return 0.0
    if count <= 0:
        return np.inf
    cut = np.partition(every, len(every) - count - 1)[len(every) - count - 1]
    return float(np.nextafter(cut, np.inf))


def subset(model: NGrams, kept: Sequence[NDArray[np.bool_]]) -> NGrams:
    """The n-grams that are kept, an array [count] for each length; the contexts of all must be."""
    orders: list[Order] = []
    places: Indices = np.zeros(1, np.int64)
    for order, chosen in zip(model.orders, kept, strict=False):
        context = places[order.context[chosen]]
        orders.append(
            Order(context, order.word[chosen], order.log10[chosen], order.backoff[chosen])
        )
        places = np.cumsum(chosen) - 1
    last = replace(orders[-1], backoff=np.zeros(len(orders[-1]), np.float32))
    return NGrams(model.words, (*orders[:-1], last))


def normalized(model: NGrams) -> NGrams:
    """The model with the back-offs by which the probabilities after every context sum to one.

    Unigrams are scaled, and the n-grams of a context whose sum is above FULL, so that something is
    left for all other words. All other probabilities stay.
    """
    model = with_unigrams_of_one(model)
    for n in range(1, model.length):
        order = model.orders[n]
        own = masses(model, n)[0]
        if (own > FULL).any():
            scale = np.log10(FULL / np.maximum(own, FULL))[order.context]
            model = model.with_values(n + 1, log10=order.log10 + scale)
        model = model.with_values(n, backoff=np.log10(back_offs(model, n)))
    return model


def with_unigrams_of_one(model: NGrams) -> NGrams:
    """The model with unigrams that sum to one."""
    first = model.orders[0]
    mass = model.total_mass(0, np.zeros(1, np.int64))
    scaled = np.minimum(first.log10 - np.log10(mass), 0)
    return model.with_values(1, log10=np.where(first.word == START_ID, first.log10, scaled))


def back_offs(model: NGrams, n: int) -> Doubles:
    """The right back-off of each n-gram of n words; 1 where nothing follows it."""
    own, below, followed = masses(model, n)
    ratio = np.maximum(1 - own, TINY) / np.maximum(1 - below, TINY)
    return np.where(followed, ratio, 1.0)


def masses(model: NGrams, n: int) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
    """For each n-gram of n words, the sum of the probabilities of the words that follow it in
    longer n-grams, the sum of those that shorter ones give them, and whether there are any."""
    order, count = model.orders[n], len(model.orders[n - 1])
    words = order.word != START_ID
    own = sums(order.context, 10.0 ** order.log10.astype(np.float64) * words, count)
    below = sums(order.context, 10.0 ** model.lower(n + 1) * words, count)
    return own, below, np.bincount(order.context, minlength=count) > 0

"""The same model with the end of every n-gram in it, as n-grams of their own.

Where `a b c` is in a model, pruning may have taken `b c` away. Structures that look for longer
n-grams among the continuations of shorter ones need it.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.ngrams import ABSENT, Ids, Indices, NGrams, Order


def close(model: NGrams) -> NGrams:
    """A model that has the end of each of its n-grams, down to single words.

    What is added has the probability that the model gives it already, and no back-off, so all
    scores stay as they are. A model that has all of them is returned as it is.
    """
    if all((each != ABSENT).all() for level in model.suffixes for each in level):
        return model
    wanted = _with_ends(_spelled(model))
    orders = [model.orders[0]]
    for shorter, ngrams in itertools.pairwise(wanted):
        orders.append(_order(model, ngrams, _places(shorter, ngrams[:, :-1])))
    return NGrams(model.words, tuple(orders))


def _spelled(model: NGrams) -> list[Ids]:
    """The ids of the words of all n-grams, [count, n], for each n."""
    found = [model.orders[0].word[:, None]]
    for order in model.orders[1:]:
        found.append(np.column_stack([found[-1][order.context], order.word]))
    return found


def _with_ends(ngrams: list[Ids]) -> list[Ids]:
    """All n-grams and, among the shorter ones, all but the first and all but the last word of each;
    every list is sorted."""
    result = [ngrams[-1]]
    for shorter in reversed(ngrams[:-1]):
        longer = result[-1]
        both = np.concatenate([shorter, longer[:, 1:], longer[:, :-1]])
        result.append(_distinct(both) if shorter.shape[1] > 1 else shorter)
    return result[::-1]


def _distinct(rows: Ids) -> Ids:
    """Rows in order, each once."""
    return np.unique(_keys(rows)).view(">i4").reshape(-1, rows.shape[1]).astype(np.int32)


def _places(rows: Ids, wanted: Ids) -> Indices:
    """The places of n-grams in a sorted list that has them all."""
    return np.searchsorted(_keys(rows), _keys(wanted))


def _keys(rows: Ids) -> NDArray[np.void]:
    """One value for each row; they are in order where the rows are: bytes, the highest first."""
    return np.ascontiguousarray(rows, ">i4").view(np.dtype((np.void, 4 * rows.shape[1])))[:, 0]


def _order(model: NGrams, ngrams: Ids, context: Indices) -> Order:
    """N-grams as the model has them or, where it has not, as it scores them."""
    n = ngrams.shape[1]
    there = model.find(ngrams)
    known = there != ABSENT
    log10, backoff = np.empty(len(ngrams), np.float32), np.zeros(len(ngrams), np.float32)
    log10[known] = model.orders[n - 1].log10[there[known]]
    backoff[known] = model.orders[n - 1].backoff[there[known]]
    added = ngrams[~known]
    ends = [model.find(added[:, n - k :]) for k in range(1, n + 1)]
    contexts = [model.find(added[:, n - k : -1]) for k in range(2, n + 1)]
    log10[~known] = np.minimum(model.backed_off(ends, contexts), 0)
    return Order(context, ngrams[:, -1], log10, backoff)

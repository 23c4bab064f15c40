"""Probabilities and back-offs of a few bits, so that every context still sums to one."""

from __future__ import annotations

import numpy as np

from tinyvox.errors import ModelError
from tinyvox.lm.codebooks import best_levels, fewest_levels, nearest
from tinyvox.lm.frequencies import Frequencies
from tinyvox.lm.ngrams import START_ID, Doubles, NGrams, Order
from tinyvox.lm.pruning import TINY, masses, with_unigrams_of_one

BITS = (2, 16)
"""The fewest and the most bits of a value."""
EVEN = 0.1
"""The part of the weight that all n-grams share evenly, however rare."""
MASS_ERROR = 8e-4
"""By how much the sum of all probabilities after a context may differ from one."""
MOST_ROOM = 1.0
"""By how much the logarithm of a back-off may differ where next to nothing is left for it."""
LEAST_LEFT = 1e-4
"""What the n-grams of a context leave to all other words, at least."""


def quantized(model: NGrams, bits: int = 8, frequencies: Frequencies | None = None) -> NGrams:
    """The model with at most 2**bits different probabilities for each length.

    Levels are the best ones for log10 of the probabilities, of which each counts as often as
    `frequencies` say that its n-gram comes. Back-offs are chosen last, from single words on, after
    all else was rounded: as few different ones as bring the sum after every context to within
    MASS_ERROR of one. Where rounding took the probabilities after a context above one, they are
    made a level lower. Raises ModelError for bits outside 2 to 16.
    """
    if not BITS[0] <= bits <= BITS[1]:
        raise ModelError(f"{bits} bits of a probability, expected {BITS[0]} to {BITS[1]}")
    levels = []
    for n in range(1, model.length + 1):
        weights = _weights(model, n, frequencies)
        levels.append(_levels(model.orders[n - 1], weights, 1 << bits))
        model = model.with_values(n, log10=_rounded(model.orders[n - 1], levels[-1]))
    model = with_unigrams_of_one(model)
    shorter = np.ones(1)
    for n in range(1, model.length):
        model = _with_room(model, n, levels[n])
        model, shorter = _with_backoffs(model, n, shorter)
    return model


def _with_backoffs(model: NGrams, n: int, shorter: Doubles) -> tuple[NGrams, Doubles]:
    """The model with back-offs of n-grams of n words, and the total mass after each of these.

    `shorter` is the mass after the n-grams that are a word shorter.
    """
    own, below, followed = masses(model, n)
    suffix = model.suffixes[n - 1][-1] if n > 1 else np.zeros(len(own), np.int64)
    left = np.maximum(1 - own, TINY)
    rest = np.maximum(shorter[suffix] - below, TINY)
    log10 = np.log10(np.where(followed, left / rest, 1.0))
    room = np.minimum(np.log1p(MASS_ERROR / left), MOST_ROOM) / np.log(10)
    log10[followed] = fewest_levels(log10[followed], room[followed])
    backoff = log10.astype(np.float32)
    mass = own + 10.0 ** backoff.astype(np.float64) * (shorter[suffix] - below)
    return model.with_values(n, backoff=backoff), mass


def _weights(model: NGrams, n: int, frequencies: Frequencies | None) -> Doubles:
    """How much each n-gram of n words counts, [count]; they sum to one."""
    order = model.orders[n - 1]
    count = len(order)
    if frequencies is None or not count:
        return np.full(count, 1 / max(1, count))
    often = 10.0 ** order.log10.astype(np.float64)
    if n > 1:
        often *= frequencies[n - 2][order.context]
    often[order.word == START_ID] = 0
    total = often.sum()
    even = np.full(count, 1 / count)
    return EVEN * even + (1 - EVEN) * (often / total) if total > 0 else even


def _levels(order: Order, weights: Doubles, count: int) -> Doubles:
    """The levels of probabilities; `<s>`, which has none, keeps one for itself among unigrams."""
    words = order.word != START_ID
    if words.all():
        return best_levels(order.log10, weights, count) if len(order) else np.zeros(1)
    return best_levels(order.log10[words], weights[words], count - 1)


def _rounded(order: Order, levels: Doubles) -> Doubles:
    rounded = levels[nearest(order.log10, levels)]
    return np.where(order.word == START_ID, order.log10, rounded)


def _with_room(model: NGrams, n: int, levels: Doubles) -> NGrams:
    """The model; where n-grams of n + 1 words leave their context less than LEAST_LEFT, they are a
    level lower, as often as it takes."""
    order = model.orders[n]
    place = nearest(order.log10, levels)
    for _ in range(len(levels)):
        own = 10.0 ** levels[place]
        full = np.bincount(order.context, own, len(model.orders[n - 1])) > 1 - LEAST_LEFT
        if not full.any():
            break
        place = np.maximum(place - full[order.context], 0)
    return model.with_values(n + 1, log10=levels[place])

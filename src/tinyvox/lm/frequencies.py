"""How often the contexts of a model come: in a text, or in what the model itself would say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.ngrams import ABSENT, END_ID, START_ID, Doubles, Indices, NGrams
from tinyvox.progress import Progress, Update, silent

STEPS = 60
"""Most words that the model says to find how often its contexts come."""
SETTLED = 0.01
"""Frequencies have settled where a word changes them by so little in all."""

Frequencies = list[Doubles]
"""For each length from 1: how often its n-grams stand before a word that is guessed, for each word
that is guessed. Lengths go up to those of contexts, one less than the longest."""


def in_text(model: NGrams, tokens: NDArray[Any]) -> Frequencies:
    """The frequencies in a text of encoded sentences."""
    before = tokens != END_ID
    counted = []
    for order, ends in zip(model.orders[:-1], model.matches(tokens), strict=False):
        found = ends[before & (ends != ABSENT)]
        counted.append(np.bincount(found, minlength=len(order)) / max(1, before.sum()))
    return counted


def of_model(model: NGrams, progress: Progress = silent) -> Frequencies:
    """The frequencies in text that the model itself would say; every suffix must be in it.

    On a Kneser-Ney model the product of the lower orders' probabilities is no estimate of them,
    since these are those of words in new contexts (Chelba et al., "Study on interaction between
    entropy pruning and Kneser-Ney smoothing", 2010). The model as a whole keeps the frequencies of
    its text, so it is followed word by word until they settle.
    """
    walk = _Walk(model)
    state = walk.start()
    for step in range(STEPS):
        progress(Update("finding frequencies", step, STEPS))
        new = walk.step(state)
        # Half of the old state: sentences of one length would otherwise go in step for ever.
        new = [(a + b) / 2 for a, b in zip(new, state, strict=True)]
        change = sum(np.abs(a - b).sum() for a, b in zip(new, state, strict=True))
        state = new
        if change < SETTLED:
            break
    return walk.with_longer(state)


class _Walk:
    """Text that is said word by word, as the probability of each state.

    A state is the longest context in the model that the text ends with: an array for each length
    from 1. `suffixes[n]` has the index of each n-gram of n + 1 words without its first word.
    """

    def __init__(self, model: NGrams) -> None:
        self._orders = model.orders
        self._suffix: list[Indices] = [suffixes[-1] for suffixes in model.suffixes[1:]]
        self._probability = [10.0 ** order.log10.astype(np.float64) for order in model.orders]
        self._backoff = [10.0 ** order.backoff.astype(np.float64) for order in model.orders[:-1]]
        for order, values in zip(model.orders, self._probability, strict=True):
            values[order.word == START_ID] = 0

    def start(self) -> list[Doubles]:
        """The state at the start of a sentence."""
        state = [np.zeros(len(order)) for order in self._orders[:-1]]
        if state:
            state[0][START_ID] = 1
        return state

    def step(self, state: list[Doubles]) -> list[Doubles]:
        """The state one word later.

        What reaches a context is its own share and what backs off from longer ones. The words that
        follow a longer context by an n-gram of its own do not back off: their part is taken out.
        """
        reach = [share.copy() for share in state]
        handed = [np.zeros(0)] * len(state)
        for n in range(len(state) - 1, -1, -1):
            handed[n] = reach[n] * self._backoff[n]
            if n:
                reach[n - 1] += _sums(self._suffix[n - 1], handed[n], len(reach[n - 1]))
        arrived = [np.array([handed[0].sum()]), *reach]
        new = [np.zeros(len(share)) for share in state]
        for n, order in enumerate(self._orders):
            flow = arrived[n][order.context]
            if n + 1 < len(self._orders):
                longer = handed[n][self._orders[n + 1].context]
                flow -= _sums(self._suffix[n], longer, len(flow))
            flow = np.maximum(flow, 0) * self._probability[n]
            new[0][START_ID] += flow[order.word == END_ID].sum()
            flow[order.word == END_ID] = 0
            if n < len(new):
                new[n] += flow
            else:
                new[n - 1] += _sums(self._suffix[n - 1], flow, len(new[n - 1]))
        return new

    def with_longer(self, state: list[Doubles]) -> Frequencies:
        """How often each n-gram ends the text, also where it does so as the end of a longer one."""
        result = [share.copy() for share in state]
        for n in range(len(result) - 1, 0, -1):
            result[n - 1] += _sums(self._suffix[n - 1], result[n], len(result[n - 1]))
        return result


def _sums(places: Indices, values: Doubles, count: int) -> Doubles:
    return np.bincount(places, values, count).astype(np.float64, copy=False)

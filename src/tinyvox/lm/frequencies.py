"""How often the contexts of a model come: in a text, or in what the model itself would say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import DataError
from tinyvox.lm.ngrams import (
    ABSENT,
    END_ID,
    START_ID,
    UNKNOWN_ID,
    Doubles,
    Ids,
    NGrams,
)
from tinyvox.progress import Progress, Update, silent

STEPS = 60
"""Most words that the model says to find how often its contexts come."""
SETTLED = 0.01
"""Frequencies have settled where a word changes them by so little in all."""

Frequencies = list[Doubles]
"""For each length from 1: how often its n-grams stand before a word that is guessed, for each word
that is guessed. Lengths go up to those of contexts, one less than the longest."""


def in_text(model: NGrams, tokens: NDArray[Any]) -> Frequencies:
    """The frequencies in a text of encoded sentences. Raises DataError where the model knows none
    of its words."""
    if np.isin(tokens, (UNKNOWN_ID, START_ID, END_ID)).all():
        raise DataError("the text has no word that the language model knows")
    before = tokens != END_ID
    counted = []
    for order, ends in zip(model.orders[:-1], model.matches(tokens), strict=False):
        found = ends[before & (ends != ABSENT)]
        counted.append(np.bincount(found, minlength=len(order)) / max(1, before.sum()))
    return counted


def of_model(model: NGrams, progress: Progress = silent) -> Frequencies:
    """The frequencies in text that the model itself would say; it must have all ends of n-grams.

    On a Kneser-Ney model the product of the lower orders' probabilities is no estimate of them,
    since these are those of words in new contexts (Chelba et al., "Study on interaction between
    entropy pruning and Kneser-Ney smoothing", 2010). The model as a whole keeps the frequencies of
    its text, so it is followed word by word until they settle.
    """
    if model.length == 1:
        return []
    walk = Walk(model)
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
    return walk.together(state)


class Walk:
    """Text that a model says word by word, as the probability of each state.

    A state is the longest context in the model that the text ends with: an array for each length
    from 1. The model must have the ends of all its n-grams.
    """

    def __init__(self, model: NGrams) -> None:
        self._orders = model.orders
        self._suffix: list[Ids] = [suffixes[-1] for suffixes in model.suffixes[1:]]
        self._backoff = [10.0 ** order.backoff.astype(np.float64) for order in model.orders[:-1]]
        self._chance = [10.0 ** order.log10.astype(np.float64) for order in model.orders]
        self._ends = [np.flatnonzero(order.word == END_ID) for order in model.orders[:-1]]
        for chance, order in zip(self._chance, model.orders, strict=True):
            chance[order.word == START_ID] = 0

    def start(self) -> list[Doubles]:
        """The state at the start of a sentence."""
        state = [np.zeros(len(order)) for order in self._orders[:-1]]
        if state:
            state[0][START_ID] = 1
        return state

    def reach(self, state: list[Doubles]) -> list[Doubles]:
        """For each n-gram, by length from 1, how often the model looks it up and nothing longer.

        What comes to a context is its own share and what backs off from longer ones. The words that
        follow a longer context by an n-gram of its own do not back off: their part is taken out.
        """
        come = [share.copy() for share in state]
        handed = [np.zeros(0)] * len(state)
        for n in range(len(state) - 1, -1, -1):
            handed[n] = come[n] * self._backoff[n]
            if n:
                come[n - 1] += sums(self._suffix[n - 1], handed[n], len(come[n - 1]))
        arrived = [np.array([handed[0].sum() if handed else 1.0]), *come]
        found = []
        for n, order in enumerate(self._orders):
            share = arrived[n][order.context]
            if n + 1 < len(self._orders):
                longer = handed[n][self._orders[n + 1].context]
                share -= sums(self._suffix[n], longer, len(share))
            found.append(np.maximum(share, 0))
        return found

    def flows(self, state: list[Doubles]) -> list[Doubles]:
        """How often the next word is said by each n-gram."""
        flows = self.reach(state)
        for flow, chance in zip(flows, self._chance, strict=True):
            flow *= chance
        return flows

    def step(self, state: list[Doubles]) -> list[Doubles]:
        """The state one word later; a sentence begins after one that ended."""
        *new, longest = self.flows(state)
        new[-1] += sums(self._suffix[-1], longest, len(new[-1]))
        ended = 0.0
        for flow, ends in zip(new, self._ends, strict=True):
            ended += flow[ends].sum()
            flow[ends] = 0
        new[0][START_ID] += ended
        return new

    def together(self, state: list[Doubles]) -> Frequencies:
        """How often each context ends the text, that of longer ones included."""
        result = [share.copy() for share in state]
        for n in range(len(result) - 1, 0, -1):
            result[n - 1] += sums(self._suffix[n - 1], result[n], len(result[n - 1]))
        return result

    def apart(self, often: Frequencies) -> list[Doubles]:
        """The state in which contexts come so often: the reverse of `together`."""
        result = [share.copy() for share in often]
        for n in range(1, len(result)):
            result[n - 1] -= sums(self._suffix[n - 1], often[n], len(result[n - 1]))
        return [np.maximum(share, 0) for share in result]


def sums(places: NDArray[Any], values: Doubles, count: int) -> Doubles:
    """The sum of the values at each place, [count]."""
    return np.bincount(places, values, count).astype(np.float64, copy=False)

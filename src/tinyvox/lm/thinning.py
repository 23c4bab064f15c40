"""Fewer n-grams, and probabilities that fit those that are left.

In a Kneser-Ney model the probabilities of short n-grams are those of words in new contexts: right
as long as all longer n-grams are there, and too flat where many were left out. So what is left is
fitted again, to what the whole model says of the text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyvox.lm.frequencies import Frequencies, Walk, sums
from tinyvox.lm.ngrams import START_ID, Doubles, NGrams
from tinyvox.lm.pruning import losses, normalized, subset, threshold_for

FACTOR = 2.5
"""By how much at most the number of n-grams falls at once: what an n-gram is worth depends on which
others are left."""
CHANGE = 10.0
"""A probability changes at most by this factor."""
MOST = 0.999
"""What the n-grams of a context have together, at most; the rest is for all other words."""


@dataclass(frozen=True)
class Fitted:
    """A model, how often its contexts come, and how often each n-gram does, by length from 1.

    `often` is for each word that is guessed, as `joint`, in which n-grams that end longer ones
    count too. The model has the ends of all its n-grams.
    """

    model: NGrams
    often: Frequencies
    joint: list[Doubles]

    @property
    def most(self) -> int:
        """The number of n-grams of two and more words."""
        return sum(self.model.counts[1:])


def fitted(model: NGrams, often: Frequencies) -> Fitted:
    """A model whose probabilities are right, with what follows from how often its contexts come."""
    walk = Walk(model)
    joint = walk.flows(walk.apart(often))
    for n in range(model.length - 1, 0, -1):
        joint[n - 1] = joint[n - 1] + sums(model.suffixes[n][-1], joint[n], len(joint[n - 1]))
    return Fitted(model, often, joint)


def thinned(given: Fitted, count: int) -> Fitted:
    """The model with at most so many n-grams of two and more words, fitted to the given one."""
    if count >= given.most:
        return given
    share = count / given.most
    rounds = max(1, math.ceil(math.log(max(share, 1 / given.most), 1 / FACTOR))) if count else 1
    small = given
    for i in range(1, rounds + 1):
        small = _thinner(small, max(count, int(given.most * share ** (i / rounds))))
    return small


def _thinner(given: Fitted, count: int) -> Fitted:
    values = losses(given.model, given.often)
    threshold = threshold_for(values, count)
    kept = [np.ones(len(given.model.words), bool), *(each >= threshold for each in values)]
    while len(kept) > 1 and not kept[-1].any():
        kept.pop()
    model = normalized(subset(given.model, kept))
    often = _chosen(given.often, kept[:-1])
    joint = _chosen(given.joint, kept)
    return Fitted(normalized(_refitted(model, often, joint)), often, joint)


def _chosen(values: list[Doubles], kept: list[NDArray[np.bool_]]) -> list[Doubles]:
    return [each[chosen] for each, chosen in zip(values, kept, strict=False)]


def _refitted(model: NGrams, often: Frequencies, joint: list[Doubles]) -> NGrams:
    """Other probabilities: of what reaches an n-gram, the part that should be its word.

    What should be is how often the n-gram comes, less what longer ones now say of it. This is a
    step of iterative proportional fitting; more steps were found to change nothing.
    """
    walk = Walk(model)
    reach = walk.reach(walk.apart(often))
    for n, order in enumerate(model.orders):
        wanted = joint[n]
        if n + 1 < model.length:
            wanted = wanted - sums(model.suffixes[n + 1][-1], joint[n + 1], len(wanted))
        now = 10.0 ** order.log10.astype(np.float64)
        new = np.divide(wanted, reach[n], out=now.copy(), where=reach[n] > 0)
        new = np.clip(new, now / CHANGE, now * CHANGE)
        new[order.word == START_ID] = 0
        total = np.bincount(order.context, new)
        new *= np.minimum(1, MOST / np.maximum(total, MOST))[order.context] if n else 1
        log10 = np.log10(new, out=order.log10.astype(np.float64), where=new > 0)
        model = model.with_values(n + 1, log10=np.minimum(log10, 0))
    return model

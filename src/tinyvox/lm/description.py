"""What a language model is, and how good it is, as facts for people and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.errors import DataError
from tinyvox.lm.ngrams import START_ID, UNKNOWN_ID, NGrams

SAMPLED = 10_000
"""Contexts of each length whose total mass is looked at, at equal distances."""


def describe(model: NGrams) -> dict[str, Any]:
    """Numbers of words and n-grams, and the mean and worst total mass over sampled contexts.

    The total mass is the sum of the probabilities of all words after a context; where it is not
    one, perplexities cannot be compared.
    """
    masses = np.concatenate([_masses(model, n) for n in range(model.length)])
    return {
        "order": model.length,
        "words": len(model.words),
        "ngrams": list(model.counts),
        "mean_total_mass": float(masses.mean()),
        "worst_total_mass": float(masses[np.abs(masses - 1).argmax()]),
        "sampled_contexts": len(masses),
    }


def _masses(model: NGrams, n: int) -> NDArray[np.float64]:
    count = model.counts[n - 1] if n else 1
    contexts = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64))
    return model.total_mass(n, contexts)


def judge(model: NGrams, tokens: NDArray[Any]) -> dict[str, Any]:
    """The perplexity of encoded sentences: of all, and of the words that the model knows.

    Raises DataError where there are none.
    """
    guessed = tokens != START_ID
    known = guessed & (tokens != UNKNOWN_ID)
    if not known.any():
        raise DataError("the text has no word that the language model knows")
    scores = model.score(tokens)
    return {
        "perplexity": float(10 ** -scores[guessed].mean()),
        "perplexity_of_known": float(10 ** -scores[known].mean()),
        "sentences": int((tokens == START_ID).sum()),
        "tokens": int(guessed.sum()),
        "unknown": int((guessed & ~known).sum()),
    }

"""Slow ways to decode that are plainly right: all paths, and a prefix search in a few lines."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Tokens = tuple[int, ...]
Gain = Callable[[Tokens], float]
"""What all tokens of a text add to its score, beside the acoustic model; minus infinity for a text
that cannot be."""


def collapsed(path: Tokens, blank: int) -> Tokens:
    """The tokens of a path: repeats are merged, then blanks dropped."""
    merged = [token for token, _ in itertools.groupby(path)]
    return tuple(token for token in merged if token != blank)


def nothing(tokens: Tokens) -> float:
    """The gain without words."""
    return 0.0


def added(a: float, b: float, sharpness: float) -> float:
    """ln (e^(s a) + e^(s b))^(1/s), where s is the sharpness."""
    if sharpness == math.inf or max(a, b) == -math.inf:
        return max(a, b)
    return float(np.logaddexp(sharpness * a, sharpness * b)) / sharpness


def all_paths(
    log_probabilities: NDArray[np.float32],
    blank: int,
    gain: Gain = nothing,
    sharpness: float = 1,
) -> dict[Tokens, float]:
    """The score of every text that T frames can give: all V^T paths are added up."""
    frames, tokens = log_probabilities.shape
    total: dict[Tokens, float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(tokens), repeat=frames):
        score = sum(float(log_probabilities[t, token]) for t, token in enumerate(path))
        text = collapsed(path, blank)
        total[text] = added(total[text], score, sharpness)
    scores = {text: score + gain(text) for text, score in total.items()}
    return {text: score for text, score in scores.items() if score > -math.inf}


def prefix_search(
    log_probabilities: NDArray[np.float32],
    blank: int,
    beam: int,
    gain: Gain = nothing,
    sharpness: float = 1,
) -> dict[Tokens, float]:
    """Prefix beam search (Hannun 2014, algorithm 1); `gain` of a text that is not complete is what
    it adds so far."""
    never = -math.inf

    def add(a: float, b: float) -> float:
        return added(a, b, sharpness)

    hypotheses: dict[Tokens, tuple[float, float]] = {(): (0.0, never)}  # ends in a blank, or not
    for frame in log_probabilities:
        found: dict[Tokens, list[float]] = defaultdict(lambda: [never, never])
        for text, (silent, spoken) in hypotheses.items():
            both = add(silent, spoken)
            found[text][0] = add(found[text][0], both + frame[blank])
            for token, likelihood in enumerate(frame):
                if token == blank:
                    continue
                if text and token == text[-1]:
                    found[text][1] = add(found[text][1], spoken + likelihood)
                longer = (*text, token)
                if (earned := gain(longer)) == never:
                    continue
                before = silent if text and token == text[-1] else both
                entering = before + likelihood + earned - gain(text)
                found[longer][1] = add(found[longer][1], entering)
        ranked = sorted(found.items(), key=lambda item: -add(*item[1]))
        hypotheses = {text: (pair[0], pair[1]) for text, pair in ranked[:beam]}
    return {text: add(*pair) for text, pair in hypotheses.items()}

"""How far the outputs of a small model are from those of the original, by what the model is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvox.evaluation import count_errors

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Judgment:
    """A measure of outputs: its name, its value of the original, and its value of the small one."""

    measure: str
    original: float
    small: float


@dataclass(frozen=True)
class Subjects:
    """What outputs are judged by: the features of each utterance, and what is known of it."""

    features: Sequence[Array]
    truth: Sequence[Any]


Judge = Callable[[Sequence[Array], Sequence[Array], Subjects], Judgment]
"""Of the original's outputs and the small one's."""


def greedy(outputs: Array, tokens: Sequence[str], blank: int) -> str:
    """The best token of each frame, repeats and blanks left out."""
    best = outputs.argmax(1)
    kept = [t for i, t in enumerate(best) if t != blank and (i == 0 or t != best[i - 1])]
    return "".join(tokens[t] for t in kept)


def characters(tokens: Sequence[str], blank: int) -> Judge:
    """Character error rate of greedy decoding, in percent."""

    def rate(outputs: Sequence[Array], truth: Sequence[str]) -> float:
        texts = [greedy(each, tokens, blank).strip() for each in outputs]
        counted = [count_errors(t, text)[2:] for t, text in zip(truth, texts, strict=True)]
        return 100 * sum(c[0] for c in counted) / sum(c[1] for c in counted)

    def judge(original: Sequence[Array], small: Sequence[Array], subjects: Subjects) -> Judgment:
        return Judgment("CER, %", rate(original, subjects.truth), rate(small, subjects.truth))

    return judge


def masked(original: Sequence[Array], small: Sequence[Array], subjects: Subjects) -> Judgment:
    """What a mask lets through, as a signal-to-error ratio in decibels to the original's."""
    signal = error = 0.0
    for mask, other, magnitude in zip(original, small, subjects.features, strict=True):
        signal += float(((mask * magnitude) ** 2).sum())
        error += float((((mask - other) * magnitude) ** 2).sum())
    return Judgment("signal to error, dB", np.inf, 10 * np.log10(signal / max(error, 1e-30)))


def probability(original: Sequence[Array], small: Sequence[Array], _: Subjects) -> Judgment:
    """The mean difference of probabilities."""
    apart = [np.abs(one - two).mean() for one, two in zip(original, small, strict=True)]
    return Judgment("mean difference of probability", 0.0, float(np.mean(apart)))


def best_class(original: Sequence[Array], small: Sequence[Array], subjects: Subjects) -> Judgment:
    """How often the best class is the right one, in percent."""

    def right(outputs: Sequence[Array]) -> float:
        hits = [o.reshape(-1).argmax() == t for o, t in zip(outputs, subjects.truth, strict=True)]
        return 100 * float(np.mean(hits))

    return Judgment("top-1, %", right(original), right(small))


def encoding(original: Sequence[Array], small: Sequence[Array], _: Subjects) -> Judgment:
    """The signal-to-error ratio of the outputs, in decibels."""
    signal = sum(float((one**2).sum()) for one in original)
    error = sum(float(((one - two) ** 2).sum()) for one, two in zip(original, small, strict=True))
    return Judgment("signal to error, dB", np.inf, 10 * np.log10(signal / max(error, 1e-30)))

"""Beam search over the outputs of an acoustic model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyvox import _native
from tinyvox.decode import checks
from tinyvox.decode.transcripts import Token, Transcript
from tinyvox.language_model import LanguageModel

ALPHA, BETA = 0.93, 1.18
"""The weight of a language model and the bonus of a word that DeepSpeech takes, rounded."""
MOST_TEXTS = 100_000
"""The widest beam."""

Found = list[tuple[bytes, list[int], list[int], float]]
"""Text, tokens, frames and score of each transcript, as the native core gives them."""


class BeamSearch:
    """How texts are searched for: tokens, words and settings. Any number of streams share one.

    A text scores the natural logarithm of its probability by the acoustic model, and for each word
    `alpha * ln P(word | words before it) + beta`, as in DeepSpeech, and the boosts of the hot words
    in it.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        blank: int,
        lm: LanguageModel | Path | str | None = None,
        *,
        beam: int = 100,
        alpha: float | None = None,
        beta: float | None = None,
        words: Sequence[str] = (),
        open_vocabulary: bool = False,
        hot_words: Mapping[str, float] | None = None,
        characters: bool = False,
        cutoff_tokens: int = 40,
        cutoff_probability: float = 1.0,
        sharpness: float | None = None,
        alike: Literal["best", "all"] = "best",
        max_memory: int | None = None,
        frame_seconds: float = 0.02,
    ) -> None:
        """`tokens` are texts as they are printed, the one at `blank` among them; bytes that are no
        characters by themselves are as Python's "surrogateescape" has them.

        `lm` is an open language model, or a .tvlm file. `alpha` and `beta` are those of its file
        where they are not given, and 0.93 and 1.18 where it has none; without a language model,
        `beta` is 0.

        `beam` texts are kept from frame to frame. Words are those of `lm`, or `words`, where
        some are given, and no others, unless the vocabulary is open: then another word is one that
        the language model does not know. `hot_words` are words or phrases with boosts, natural
        logarithms; they may always be said. With `characters`, each character is a word of the
        language model, as in DeepSpeech's scorers for bytes. Of each frame the `cutoff_tokens` most
        likely tokens count, or as few as have `cutoff_probability` together. An output frame lasts
        `frame_seconds`.

        A text is spelled by many paths, each of a probability p: (sum of p^s)^(1/s) counts, where s
        is the `sharpness`. 1 is their sum, infinity the likeliest path alone. By default it is 1,
        but 2 where no words are known: a few more letters are wrong, and fewer words. Of texts that
        are `alike`, as the language model can tell them apart no more, only the best goes on: a
        beam then finds what a wider one would, but lists of several texts vary in their last words
        alone. "all" keeps all.

        A search that may take more than `max_memory` bytes, with all its words and one stream, is
        refused; without it the limit is 1 GiB, which is a beam of some thousands.

        Raises FileError for a file that cannot be used; ValueError for settings out of their range,
        too much memory, hot words with characters that no token gives, and where tokens can spell
        none of the words.
        """
        self.tokens, self.frame_seconds = tuple(tokens), frame_seconds
        self.blank = checks.whole_number("blank", blank)
        self.hot_words = hot = checks.hot_words(hot_words or {})
        model = None if lm is None else _model_of(lm)
        self.alpha, self.beta = _weights(model, alpha, beta)
        more = [] if lm is None and not words else [w for text in hot for w in text.split()]
        self._vocabulary = self._words(
            model, closed=not open_vocabulary, characters=characters,
            words=checks.single_words(words), more=more,
        )  # fmt: skip
        self._settings: dict[str, Any] = {
            "beam": checks.whole_number("the beam width", beam, 1, MOST_TEXTS),
            "cutoff_tokens": checks.whole_number("cutoff_tokens", cutoff_tokens, 1),
            "cutoff_probability": checks.real_number("cutoff_probability", cutoff_probability),
            "sharpness": float(sharpness or 0.0),
            "recombine": checks.one_of("alike", alike, ("best", "all")) == "best",
            "max_memory": checks.whole_number("max_memory", max_memory or 0, most=checks.MOST_64),
            "hot_words": list(hot.items()),
        }
        self.native = self._with(self.alpha, self.beta)

    def _words(self, model: LanguageModel | None, **settings: Any) -> _native.Vocabulary:
        tokens = [text.encode("utf-8", "surrogateescape") for text in self.tokens]
        native = None if model is None else model.native
        try:
            return _native.Vocabulary(tokens, self.blank, native, **settings)
        except ValueError as error:
            if model is None:
                raise
            raise ValueError(f"{model.path}: {error}") from error

    def weighted(self, alpha: float, beta: float) -> BeamSearch:
        """The same search with other weights; it shares the words, so it takes no time to make.

        Raises ValueError for weights out of their range.
        """
        other = copy.copy(self)
        other.alpha, other.beta, other.native = alpha, beta, self._with(alpha, beta)
        return other

    def _with(self, alpha: float, beta: float) -> _native.BeamSearch:
        try:
            return _native.BeamSearch(self._vocabulary, alpha=alpha, beta=beta, **self._settings)
        except _native.FormatError as error:  # of its limit
            raise ValueError(f"the search {error}") from error

    def stream(self) -> BeamStream:
        """A new utterance."""
        return BeamStream(self)

    def decode(self, log_probabilities: ArrayLike, count: int = 1) -> list[Transcript]:
        """The `count` likeliest texts of a whole utterance, the best first.

        `log_probabilities` are natural logarithms, [frames, tokens]. Raises ValueError on another
        shape, on values that are not numbers or above zero, and for a `count` below zero.
        """
        stream = self.stream()
        stream.push(log_probabilities)
        return stream.finish(count)

    def transcripts(self, found: Found) -> list[Transcript]:
        """What the native core found, with texts and times of tokens."""
        return [
            Transcript(
                text.decode("utf-8", "replace"),
                score,
                tuple(
                    Token(self.tokens[token], frame, frame * self.frame_seconds)
                    for token, frame in zip(tokens, frames, strict=True)
                ),
                self.frame_seconds,
            )
            for text, tokens, frames, score in found
        ]


def _model_of(lm: LanguageModel | Path | str) -> LanguageModel:
    return lm if isinstance(lm, LanguageModel) else LanguageModel(lm)


def _weights(
    model: LanguageModel | None, alpha: float | None, beta: float | None
) -> tuple[float, float]:
    """Alpha and beta: those given, else those of the model's file, else the usual ones."""
    usual = (ALPHA, 0.0) if model is None else model.weights or (ALPHA, BETA)
    return (
        usual[0] if alpha is None else checks.real_number("alpha", alpha),
        usual[1] if beta is None else checks.real_number("beta", beta),
    )


class BeamStream:
    """One utterance: push frames as they come, ask for texts at any moment.

    The texts do not depend on how the frames were cut into pieces. One thread at a time uses a
    stream: a call while another thread is inside one raises RuntimeError and changes nothing.
    """

    def __init__(self, search: BeamSearch) -> None:
        self._search, self._native = search, _native.BeamDecoder(search.native)

    @property
    def bytes(self) -> int:
        """Memory that it takes, but for words and for tokens that are final. It is bounded."""
        return self._native.bytes

    def push(self, log_probabilities: ArrayLike) -> None:
        """Take frames [frames, tokens]. Raises ValueError as `BeamSearch.decode`."""
        self._native.step(as_log_probabilities(log_probabilities))

    def best(self, count: int = 1) -> list[Transcript]:
        """The likeliest texts so far; their last word may not be complete."""
        return self._search.transcripts(self._native.best(checks.number_of_texts(count), False))

    def finish(self, count: int = 1) -> list[Transcript]:
        """The likeliest texts, if the utterance is over here."""
        return self._search.transcripts(self._native.best(checks.number_of_texts(count), True))

    def reset(self) -> None:
        """Back to the beginning, for the next utterance."""
        self._native.begin()


def as_log_probabilities(values: ArrayLike) -> NDArray[np.float32]:
    """Contiguous float32 frames. Raises ValueError naming what was found."""
    frames: NDArray[np.float32] = np.ascontiguousarray(values, dtype=np.float32)
    if frames.ndim != 2:
        raise ValueError(f"log-probabilities of shape {frames.shape}, expected [frames, tokens]")
    if np.isnan(frames).any() or (frames.size and frames.max() > 0.01):
        raise ValueError(
            "log-probabilities hold NaN, or values above 0; expected natural logarithms of "
            "probabilities"
        )
    return frames

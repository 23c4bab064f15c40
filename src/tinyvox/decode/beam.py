"""Beam search over the outputs of an acoustic model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyvox import _native
from tinyvox.decode.transcripts import Token, Transcript
from tinyvox.language_model import LanguageModel

ALPHA, BETA = 0.93, 1.18
"""The weight of a language model and the bonus of a word that DeepSpeech takes, rounded."""

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

        Raises FileError for a file that cannot be used; ValueError for settings out of their range,
        for hot words with characters that no token gives, and where tokens can spell none of the
        words.
        """
        self.tokens, self.blank, self.frame_seconds = tuple(tokens), blank, frame_seconds
        hot = dict(hot_words or {})
        self.hot_words = hot
        model = None if lm is None else _model_of(lm)
        usual = _usual_weights(model)
        self.alpha = usual[0] if alpha is None else alpha
        self.beta = usual[1] if beta is None else beta
        self._vocabulary = _native.Vocabulary(
            [text.encode("utf-8", "surrogateescape") for text in tokens],
            blank,
            model,
            closed=not open_vocabulary,
            characters=characters,
            words=list(words),
            more=[] if lm is None and not words else [w for text in hot for w in text.split()],
        )
        self._settings: dict[str, Any] = {
            "beam": beam,
            "cutoff_tokens": cutoff_tokens,
            "cutoff_probability": cutoff_probability,
            "hot_words": [(" ".join(text.split()), boost) for text, boost in hot.items()],
        }
        self.native = self._with(self.alpha, self.beta)

    def weighted(self, alpha: float, beta: float) -> BeamSearch:
        """The same search with other weights; it shares the words, so it takes no time to make.

        Raises ValueError for weights out of their range.
        """
        other = copy.copy(self)
        other.alpha, other.beta, other.native = alpha, beta, self._with(alpha, beta)
        return other

    def _with(self, alpha: float, beta: float) -> _native.BeamSearch:
        return _native.BeamSearch(self._vocabulary, alpha=alpha, beta=beta, **self._settings)

    def stream(self) -> BeamStream:
        """A new utterance."""
        return BeamStream(self)

    def decode(self, log_probabilities: ArrayLike, count: int = 1) -> list[Transcript]:
        """The `count` likeliest texts of a whole utterance, the best first.

        `log_probabilities` are natural logarithms, [frames, tokens]. Raises ValueError on another
        shape, and on values that are not numbers or above zero.
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


def _model_of(lm: LanguageModel | Path | str) -> _native.NgramModel:
    return (lm if isinstance(lm, LanguageModel) else LanguageModel(lm)).native


def _usual_weights(model: _native.NgramModel | None) -> tuple[float, float]:
    """Alpha and beta where nobody asks for others."""
    if model is None:
        return ALPHA, 0.0
    return model.weights or (ALPHA, BETA)


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
        return self._search.transcripts(self._native.best(count, False))

    def finish(self, count: int = 1) -> list[Transcript]:
        """The likeliest texts, if the utterance is over here."""
        return self._search.transcripts(self._native.best(count, True))

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

"""A `.tvlm` language model, queried where it lies. Needs numpy alone."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyvox import _native
from tinyvox.errors import FileError

START, END = "<s>", "</s>"
_START_ID, _END_ID = 1, 2
_LN_10 = math.log(10)
_ACOUSTIC = b"\x89TVX"
_LONG_TOKEN = 6
"""Letters; pyctcdecode takes longer unfinished words to be even less likely."""


class LanguageModel:
    """An open .tvlm file. All scores are base-10 logarithms, as those of ARPA files and KenLM.

    A state is what the next score depends on: `bytes`, equal where all later scores are. Any number
    of threads may use one model. Raises FileError where the file is missing or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            self._native = _native.NgramModel(path)
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from error
        except _native.FormatError as error:
            raise FileError(f"{path}: {_said(Path(path), str(error))}") from None
        self.path = Path(path)
        """The file, for messages."""

    @property
    def native(self) -> _native.NgramModel:
        """The model in the native core, for decoders."""
        return self._native

    @property
    def order(self) -> int:
        """The number of words of the longest n-grams."""
        return self._native.order

    @property
    def weights(self) -> tuple[float, float] | None:
        """The alpha and beta that a decoder takes where it is not given others; None where the file
        has none."""
        return self._native.weights

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words, by their ids; `<unk>`, `<s>` and `</s>` are the first three."""
        return tuple(each.decode("utf-8", "surrogateescape") for each in self._native.words())

    def __len__(self) -> int:
        return self._native.size

    def __contains__(self, word: str) -> bool:
        return self.id(word) != 0

    def id(self, word: str) -> int:
        """The id of a word; 0, that of `<unk>`, where the model does not have it."""
        return self._native.id(word.encode("utf-8", "surrogatepass"))

    def start(self, sentence: bool = True) -> bytes:
        """The state at the start of a sentence; else that after nothing at all."""
        return self._native.begin(sentence)

    def step(self, state: bytes, word: str | int) -> tuple[float, bytes]:
        """The log10 probability of a word, or of its id, after a state; the state after both.

        Raises ValueError for bytes that are no state of this model, and ids that are of no word.
        """
        return self._native.score(state, self.id(word) if isinstance(word, str) else word)

    def encode(self, sentences: Iterable[str]) -> NDArray[np.int32]:
        """The ids of sentences, [tokens]: each is `<s>`, its words, `</s>`.

        Raises ValueError for a single text, which is no list of them.
        """
        if isinstance(sentences, str):
            raise ValueError("sentences are one text, expected several; give [text]")
        found: list[int] = []
        for sentence in sentences:
            found += [_START_ID, *map(self.id, sentence.split()), _END_ID]
        return np.array(found, np.int32)

    def score_ids(self, ids: ArrayLike) -> NDArray[np.float32]:
        """The log10 probability of each token after those before it, [tokens].

        `<s>` begins anew, and has the score 0. Raises ValueError for an array of another shape, and
        for ids that are of no word.
        """
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"ids are {array.dtype} of shape {array.shape}, expected integers [n]")
        wrong = array[(array < 0) | (array >= len(self))]
        if wrong.size:
            last = len(self) - 1
            raise ValueError(f"the id {wrong[0]} is of no word, expected 0 to {last}")
        return self._native.score_all(np.ascontiguousarray(array, np.int32), self.start(False))

    def score(self, text: str, sentence: bool = True) -> float:
        """The log10 probability of a text; with `sentence`, as a whole one from start to end."""
        if sentence:
            return float(self.score_ids(self.encode([text])).sum())
        ids = np.array([self.id(word) for word in text.split()], np.int32)
        return float(self.score_ids(ids).sum())

    def perplexity(self, sentences: Iterable[str]) -> float:
        """The perplexity of sentences, their ends and unknown words included.

        Raises ValueError where there are none.
        """
        ids = self.encode(sentences)
        guessed = np.count_nonzero(ids != _START_ID)
        if not guessed:
            raise ValueError("there are no sentences, so there is no perplexity")
        return float(10 ** (-self.score_ids(ids).sum(dtype=np.float64) / guessed))

    def for_pyctcdecode(
        self, alpha: float = 0.5, beta: float = 1.5, unk_score_offset: float = -10.0
    ) -> PyctcdecodeModel:
        """This model as pyctcdecode takes one:
        `BeamSearchDecoderCTC(alphabet, model.for_pyctcdecode())`."""
        return PyctcdecodeModel(self, alpha, beta, unk_score_offset)


def _said(path: Path, fault: str) -> str:
    """A fault that the core found, and what to do where the file is of another kind."""
    if not fault.startswith("not a tinyvox language model"):
        return fault
    with path.open("rb") as file:
        acoustic = file.read(len(_ACOUSTIC)) == _ACOUSTIC
    if acoustic:
        return "is an acoustic model, expected a language model, .tvlm"
    return (
        f"{fault}; make one of an ARPA file, a KenLM binary or a scorer: "
        f"tinyvox lm compress {path.name} -o LM.tvlm"
    )


class PyctcdecodeModel:
    """What pyctcdecode calls a language model, on a .tvlm file; the weights are those of its own.

    A score is alpha times the natural logarithm, plus beta; words outside the model have
    `unk_score_offset` (log10) on top of that of `<unk>`.
    """

    def __init__(
        self, model: LanguageModel, alpha: float, beta: float, unk_score_offset: float
    ) -> None:
        self._model = model
        self._sorted = sorted(model.words)
        self.alpha, self.beta, self.unk_score_offset = alpha, beta, unk_score_offset

    @property
    def order(self) -> int:
        """The number of words of the longest n-grams."""
        return self._model.order

    def get_start_state(self) -> bytes:
        """The state at the start of a sentence."""
        return self._model.start()

    def score_partial_token(self, partial_token: str) -> float:
        """The penalty of letters with which no word begins; 0 for others."""
        place = bisect_left(self._sorted, partial_token)
        if place < len(self._sorted) and self._sorted[place].startswith(partial_token):
            return 0.0
        return self.unk_score_offset * max(1.0, len(partial_token) / _LONG_TOKEN)

    def score(
        self, prev_state: bytes, word: str, is_last_word: bool = False
    ) -> tuple[float, bytes]:
        """The weighted score of a word after a state, and the state after it."""
        log10, state = self._model.step(prev_state, word)
        if word not in self._model:
            log10 += self.unk_score_offset
        if is_last_word:
            log10 += self._model.step(state, END)[0]
        return self.alpha * log10 * _LN_10 + self.beta, state

    def reset_params(self, **params: float | None) -> None:
        """Set alpha, beta and unk_score_offset where they are given."""
        for name in ("alpha", "beta", "unk_score_offset"):
            if (value := params.get(name)) is not None:
                setattr(self, name, value)

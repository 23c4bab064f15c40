"""Word and character error rates (WER, CER), with their confidence intervals."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyvox.decode import BeamSearch, greedy_text
from tinyvox.errors import DataError, ModelError
from tinyvox.evaluation.counting import (
    Normalize,
    UnknownCharacters,
    count_errors,
    edits_of_case,
    normalized,
    unknown_characters,
)
from tinyvox.evaluation.outputs import NO_CARD, outputs_of
from tinyvox.language_model import LanguageModel
from tinyvox.model import Model
from tinyvox.progress import Progress, counted, silent
from tinyvox.runtime import Session
from tinyvox.speech import Audio, Utterance, read_utterance

RESAMPLINGS = 2000
"""Bootstrap samples behind an interval."""
DRAWN = 1 << 18
"""Utterances that are drawn at a time, so that memory does not grow with the set."""

KEPT = 10_000
"""Texts that are kept, at most: those of the first utterances, so that memory stays small."""

Transcribe = Callable[[Audio], str]
"""Text of samples."""


@dataclass(frozen=True)
class LeftOut:
    """An utterance that was not scored, and why not, in one line that names its file."""

    utterance: Utterance
    reason: str


@dataclass(frozen=True)
class Heard:
    """An utterance, what is said in it, and what was heard: both as they were compared."""

    utterance: Utterance
    reference: str
    text: str


@dataclass(frozen=True)
class Errors:
    """Edits (substitutions, deletions, insertions) and reference lengths of every utterance, in
    words and in characters, int64 [utterances]; `seconds` is the time that transcribing took.

    `left_out` are the utterances that were not scored, `unknown` the reference characters that no
    token can give. `case_edits` of the word edits would not be there in lower case. `heard` are the
    texts of the first utterances, where they were kept.
    """

    word_edits: NDArray[np.int64]
    words: NDArray[np.int64]
    character_edits: NDArray[np.int64]
    characters: NDArray[np.int64]
    audio_seconds: float
    seconds: float
    left_out: tuple[LeftOut, ...] = ()
    unknown: UnknownCharacters = field(default_factory=UnknownCharacters)
    case_edits: int = 0
    heard: tuple[Heard, ...] = ()

    @property
    def wer(self) -> float:
        """Word error rate: edits over reference words, of all utterances together; NaN where the
        references have no words."""
        return _rate(self.word_edits, self.words)

    def summary(self) -> dict[str, Any]:
        """The facts that `eval --json` prints, by their keys; None for rates that are undefined, as
        the references are empty."""
        some = bool(self.words.sum())
        return {
            "wer": self.wer if some else None,
            "cer": _rate(self.character_edits, self.characters) if some else None,
            "wer_interval": list(interval(self.word_edits, self.words)) if some else None,
            "word_edits": int(self.word_edits.sum()),
            "words": int(self.words.sum()),
            "utterances": len(self.words),
            "left_out": [
                {"audio_filepath": str(each.utterance.path), "reason": each.reason}
                for each in self.left_out
            ],
            "unknown_characters": dict(self.unknown.counts),
            "case_edits": self.case_edits,
            "seconds": self.seconds,
            "rtf": self.seconds / self.audio_seconds if self.audio_seconds else 0.0,
        }


def _rate(edits: NDArray[np.int64], totals: NDArray[np.int64]) -> float:
    total = int(totals.sum())
    return int(edits.sum()) / total if total else float("nan")


def transcribe_with(
    model: Model | Session, search: BeamSearch | None = None
) -> tuple[Transcribe, int]:
    """A function that transcribes samples, and the sample rate (Hz) that they must have.

    It decodes greedily without a `search`, which must be for the model's tokens. Raises ModelError
    where the model has no speech card.
    """
    if isinstance(model, Session) and model.has_speech:
        return lambda audio: model.transcribe(audio, search=search), model.sample_rate
    outputs, rate = outputs_of(model)
    assert isinstance(model, Model)
    assert model.card is not None
    texts, blank = model.card.texts, model.card.blank

    def transcribe(audio: Audio) -> str:
        found = outputs(audio)
        if search is None:
            return greedy_text(found.argmax(axis=-1).tolist(), texts, blank)
        return search.decode(found)[0].text

    return transcribe, rate


def search_for(
    model: Model | Session,
    lm: LanguageModel | Path | str | None,
    settings: Mapping[str, Any],
) -> BeamSearch:
    """A beam search over the outputs of a model; `settings` are those of `BeamSearch`.

    Raises FileError for a language model that cannot be opened, ModelError where the model has no
    speech card, or its tokens do not fit words or hot words.
    """
    if not (model.has_speech if isinstance(model, Session) else model.card):
        raise ModelError(NO_CARD)
    try:
        if isinstance(model, Session):
            return model.search(lm, **settings)
        card = model.card
        assert card is not None
        return BeamSearch(card.texts, card.blank, lm, **settings)
    except ValueError as error:
        raise ModelError(str(error)) from error


def tokens_of(model: Model | Session) -> Sequence[str]:
    """What the tokens of a model with a speech card are printed as, but for the blank."""
    if isinstance(model, Session):
        return model.tokens
    card = model.card
    return [] if card is None else [t for i, t in enumerate(card.texts) if i != card.blank]


def evaluate(
    model: Model | Session,
    utterances: Collection[Utterance],
    progress: Progress = silent,
    normalize: Normalize = "none",
    search: BeamSearch | None = None,
) -> Errors:
    """Transcribe utterances, greedily unless there is a `search`, and count the errors.

    Utterances without a transcript, and those whose audio cannot be used, are left out. `progress`
    is told of each utterance, in the stage "transcribing". Raises DataError where none is left, and
    ModelError where the model has no speech card.
    """
    transcribe, rate = transcribe_with(model, search)
    tally = Tally(normalize)
    for utterance in counted(utterances, "transcribing", progress):
        try:
            reference, audio = scored(utterance, rate)
        except DataError as error:
            tally.left_out.append(LeftOut(utterance, str(error)))
            continue
        with tally.timed():
            text = transcribe(audio)
        tally.audio_seconds += len(audio) / rate
        tally.add(reference, text, utterance)
    return tally.errors(tokens_of(model))


def scored(utterance: Utterance, rate: int) -> tuple[str, Audio]:
    """What is said in an utterance, and its samples. Raises DataError where one cannot be had."""
    if utterance.transcript is None:
        raise DataError(f"{utterance.path}: no transcript in the manifest to compare with")
    return utterance.transcript, read_utterance(utterance, rate)


class Tally:
    """What is counted while utterances are transcribed."""

    def __init__(self, normalize: Normalize) -> None:
        self.normalize = normalize
        self.rows = array("q")  # four numbers an utterance
        self.characters: Counter[str] = Counter()
        self.left_out: list[LeftOut] = []
        self.heard: list[Heard] = []
        self.case_edits = 0
        self.audio_seconds = self.seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Adds to the seconds that transcribing takes."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def add(self, reference: str, hypothesis: str, utterance: Utterance | None = None) -> None:
        """Count the errors of one utterance; its texts are kept where it is given."""
        said, heard = (normalized(text, self.normalize) for text in (reference, hypothesis))
        self.characters.update(said)
        self.rows.extend(count_errors(said, heard))
        self.case_edits += edits_of_case(said, heard)
        if utterance is not None and len(self.heard) < KEPT:
            self.heard.append(Heard(utterance, said, heard))

    def errors(self, tokens: Sequence[str]) -> Errors:
        """The errors of all. Raises DataError where there is none that could be scored."""
        if not self.rows:
            raise DataError(_why_none(self.left_out))
        columns = np.array(self.rows, dtype=np.int64).reshape(-1, 4).T
        word_edits, words, character_edits, characters = columns
        return Errors(
            word_edits,
            words,
            character_edits,
            characters,
            audio_seconds=self.audio_seconds,
            seconds=self.seconds,
            left_out=tuple(self.left_out),
            unknown=unknown_characters(self.characters, tokens),
            case_edits=self.case_edits,
            heard=tuple(self.heard),
        )


def _why_none(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "found no utterances to evaluate on, expected at least one"
    others = f"; nor can the other {len(left_out) - 1} be scored" if len(left_out) > 1 else ""
    return left_out[0].reason + others


def lost_words(
    original: Model, utterances: Sequence[Utterance], normalize: Normalize = "none"
) -> Callable[[Model], float]:
    """A function that says by how many percentage points the WER of a changed model on these
    utterances is above that of the original.

    Raises DataError where an utterance cannot be scored, or no word is said in all of them.
    """
    before = evaluate(original, utterances, normalize=normalize)
    if before.left_out:
        raise DataError(before.left_out[0].reason)
    if not before.words.sum():
        raise DataError(f"{utterances[0].path}: no words in this transcript, nor in the others")
    return lambda changed: (
        100 * (evaluate(changed, utterances, normalize=normalize).wer - before.wer)
    )


def interval(edits: NDArray[np.int64], totals: NDArray[np.int64]) -> tuple[float, float]:
    """95% confidence interval of an error rate: percentile bootstrap over utterances (Bisani and
    Ney 2004)."""
    low, high = np.percentile(_resampled(edits, totals), [2.5, 97.5])
    return float(low), float(high)


def change_interval(one: Errors, other: Errors) -> tuple[float, float]:
    """95% confidence interval of the change of WER from `one` to `other`, which must be errors on
    the same utterances: they are resampled in pairs (Bisani and Ney 2004)."""
    low, high = np.percentile(_resampled(other.word_edits - one.word_edits, one.words), [2.5, 97.5])
    return float(low), float(high)


def _resampled(edits: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rates of samples drawn with replacement, but for those without a reference word."""
    rng, count, found = np.random.default_rng(0), len(totals), []
    at_once = max(1, DRAWN // count)
    for first in range(0, RESAMPLINGS, at_once):
        picks = rng.integers(0, count, (min(at_once, RESAMPLINGS - first), count))
        sums = totals[picks].sum(axis=1)
        found.append(edits[picks].sum(axis=1)[sums > 0] / sums[sums > 0])
    return np.concatenate(found, dtype=np.float64)

"""Word and character error rates (WER, CER), with their confidence intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from tinyvox.errors import DataError, ModelError
from tinyvox.executor import Executor
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, counted, silent
from tinyvox.runtime import Session, extract_features
from tinyvox.speech import Audio, Utterance, read_audio

RESAMPLINGS = 2000
"""Bootstrap samples behind an interval."""

Transcribe = Callable[[Audio], str]
"""Text of samples."""


@dataclass(frozen=True)
class Errors:
    """Edits (substitutions, deletions, insertions) and reference lengths of every utterance, in
    words and in characters, int64 [utterances]; `seconds` is the time that transcribing took."""

    word_edits: NDArray[np.int64]
    words: NDArray[np.int64]
    character_edits: NDArray[np.int64]
    characters: NDArray[np.int64]
    audio_seconds: float
    seconds: float

    @property
    def wer(self) -> float:
        """Word error rate: edits over reference words, of all utterances together."""
        return float(self.word_edits.sum() / self.words.sum())

    def summary(self) -> dict[str, Any]:
        """The facts that `eval --json` prints, by their keys."""
        return {
            "wer": self.wer,
            "cer": float(self.character_edits.sum() / self.characters.sum()),
            "wer_interval": list(interval(self.word_edits, self.words)),
            "utterances": len(self.words),
            "seconds": self.seconds,
            "rtf": self.seconds / self.audio_seconds if self.audio_seconds else 0.0,
        }


def transcribe_with(model: Model | Session) -> tuple[Transcribe, int]:
    """A function that transcribes samples, and the sample rate (Hz) that they must have.

    Raises ModelError where the model has no speech card.
    """
    if isinstance(model, Session):
        return model.transcribe, model.sample_rate
    card = model.card
    if card is None:
        raise ModelError("this model has no speech card, so it gives no text; add --card FILE")
    executor = Executor(model).eval()

    def transcribe(audio: Audio) -> str:
        features = extract_features(card.features.model_dump(), audio)
        with torch.inference_mode():
            outputs = executor(torch.from_numpy(features)[None])[0]
        return greedy_text(outputs.argmax(dim=-1).tolist(), card)

    return transcribe, card.features.sample_rate


def greedy_text(best: Iterable[int], card: SpeechCard) -> str:
    """Text of the most likely token of each frame: repeated tokens are merged, then blanks are
    dropped (Graves 2006, best path decoding)."""
    merged, last = [], card.blank
    for token in best:
        if token not in (last, card.blank):
            merged.append(card.texts[token])
        last = token
    return "".join(merged).strip()


def evaluate(
    model: Model | Session,
    utterances: Sequence[Utterance],
    progress: Progress = silent,
) -> Errors:
    """Transcribe utterances greedily, without a language model, and count the errors.

    `progress` is told of each utterance, in the stage "transcribing". Raises DataError where there
    is no utterance, or one without a transcript, and ModelError where the model has no speech card.
    """
    if not utterances:
        raise DataError("found no utterances to evaluate on, expected at least one")
    transcribe, rate = transcribe_with(model)
    rows, audio_seconds, seconds = [], 0.0, 0.0
    for utterance in counted(utterances, "transcribing", progress):
        if not utterance.text.strip():
            raise DataError(f"{utterance.path}: no transcript in the manifest to compare with")
        audio = read_audio(utterance.path, rate)
        start = time.perf_counter()
        text = transcribe(audio)
        seconds += time.perf_counter() - start
        audio_seconds += len(audio) / rate
        rows.append(count_errors(utterance.text, text))
    columns = np.array(rows, dtype=np.int64).T
    return Errors(columns[0], columns[1], columns[2], columns[3], audio_seconds, seconds)


def lost_words(original: Model, utterances: Sequence[Utterance]) -> Callable[[Model], float]:
    """A function that says by how many percentage points the WER of a changed model on these
    utterances is above that of the original."""
    before = evaluate(original, utterances).wer
    return lambda changed: 100 * (evaluate(changed, utterances).wer - before)


def count_errors(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    """Word edits, reference words, character edits, and reference characters of one utterance."""
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return (
        words.substitutions + words.deletions + words.insertions,
        words.substitutions + words.deletions + words.hits,
        characters.substitutions + characters.deletions + characters.insertions,
        characters.substitutions + characters.deletions + characters.hits,
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
    picks = np.random.default_rng(0).integers(0, len(totals), (RESAMPLINGS, len(totals)))
    return np.asarray(edits[picks].sum(axis=1) / totals[picks].sum(axis=1), dtype=np.float64)

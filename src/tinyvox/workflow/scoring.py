"""Error rates of a model on a manifest, beside those of the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox import runtime
from tinyvox.errors import DataError
from tinyvox.evaluation import (
    Errors,
    Normalize,
    change_interval,
    check_normalize,
    search_for,
)
from tinyvox.evaluation import evaluate as measure
from tinyvox.importers import load
from tinyvox.language_model import LanguageModel
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.runtime import Session
from tinyvox.speech import Utterance, check_audio, read_manifest

Recognizer = Model | Session


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model and, where one was given, of the original on the same utterances."""

    errors: Errors
    original: Errors | None = None

    @property
    def wer(self) -> float:
        """The word error rate; NaN where the references have no words."""
        return self.errors.wer

    def summary(self) -> dict[str, Any]:
        """The keys that `eval --json` prints."""
        facts = self.errors.summary()
        if self.original is not None:
            some = bool(self.errors.words.sum())
            facts["original"] = self.original.summary()
            facts["wer_change"] = self.errors.wer - self.original.wer if some else None
            change = list(change_interval(self.original, self.errors)) if some else None
            facts["wer_change_interval"] = change
        return facts

    def transcripts(self) -> list[dict[str, Any]]:
        """The texts and word edits of the first 10,000 utterances, which `eval --json` prints
        too."""
        rows = _texts(self.errors)
        if self.original is not None:
            for row, before in zip(rows, _texts(self.original), strict=True):
                row["original_text"] = before["text"]
                row["original_word_edits"] = before["word_edits"]
        return rows


def _texts(errors: Errors) -> list[dict[str, Any]]:
    counts = zip(errors.heard, errors.word_edits.tolist(), errors.words.tolist(), strict=False)
    return [
        {
            "audio_filepath": str(heard.utterance.path),
            "offset": heard.utterance.offset,
            "duration": heard.utterance.duration,
            "speaker": heard.utterance.speaker,
            "reference": heard.reference,
            "text": heard.text,
            "word_edits": edits,
            "words": words,
        }
        for heard, edits, words in counts
    ]


def evaluate(
    model: Recognizer | Path | str,
    data: Path | str | Sequence[Utterance],
    *,
    against: Recognizer | Path | str | None = None,
    card: Path | None = None,
    normalize: Normalize = "none",
    lm: LanguageModel | Path | str | None = None,
    search: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Transcribe a manifest, or utterances, and count word and character errors.

    Models are open ones or files; a .tvx file runs in the native runtime, others in torch. They are
    decoded greedily, or, with a language model or settings of a `BeamSearch` in `search`, by a beam
    search. With `normalize="lower"` references and texts are compared in lower case. Utterances
    without a transcript, and those whose audio cannot be used, are left out: `errors.left_out` has
    them.

    Raises FileError or ImporterError for a model that cannot be opened, ModelError for one without
    a speech card, or with tokens that do not fit the words, DataError where a manifest cannot be
    used, audio is missing, or no utterance can be scored.
    """
    check_normalize(normalize)
    utterances = _utterances(data)
    decoded = [open_recognizer(each, card) for each in (model, against) if each is not None]
    wanted = lm is not None or bool(search)
    searches = [search_for(each, lm, search or {}) if wanted else None for each in decoded]
    errors = measure(decoded[0], utterances, progress, normalize, searches[0])
    if against is None:
        return Evaluation(errors)
    out = {each.utterance for each in errors.left_out}
    scored = [each for each in utterances if each not in out]
    before = measure(decoded[1], scored, progress, normalize, searches[1])
    if before.left_out:
        raise DataError(before.left_out[0].reason)
    return Evaluation(errors, before)


def _utterances(data: Path | str | Sequence[Utterance]) -> Sequence[Utterance]:
    if not isinstance(data, Path | str):
        return data
    utterances = read_manifest(Path(data))
    check_audio(Path(data), utterances)
    return utterances


def open_recognizer(model: Recognizer | Path | str, card: Path | None = None) -> Recognizer:
    """A native session for a .tvx file, else a model for torch; open ones as they are."""
    if not isinstance(model, Path | str):
        return model
    if Path(model).suffix.lower() != ".tvx" or card is not None:
        return load(model, card)
    return runtime.open(model)

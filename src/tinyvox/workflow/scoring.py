"""Error rates of a model on a manifest, beside those of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox import runtime
from tinyvox.errors import DataError
from tinyvox.evaluation import Errors, Normalize, change_interval, check_normalize
from tinyvox.evaluation import evaluate as measure
from tinyvox.importers import load
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
        """The word error rate, greedily decoded without a language model; NaN where the references
        have no words."""
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


def evaluate(
    model: Recognizer | Path | str,
    data: Path | str | Sequence[Utterance],
    *,
    against: Recognizer | Path | str | None = None,
    card: Path | None = None,
    normalize: Normalize = "none",
    progress: Progress = silent,
) -> Evaluation:
    """Transcribe a manifest, or utterances, and count word and character errors.

    Models are open ones or files; a .tvx file runs in the native runtime, others in torch. With
    `normalize="lower"` references and texts are compared in lower case. Utterances without a
    transcript, and those whose audio cannot be used, are left out: `errors.left_out` has them.

    Raises FileError or ImporterError for a model that cannot be opened, ModelError for one without
    a speech card, DataError where a manifest cannot be used, audio is missing, or no utterance can
    be scored.
    """
    check_normalize(normalize)
    utterances = _utterances(data)
    small = open_recognizer(model, card)
    original = None if against is None else open_recognizer(against, card)
    errors = measure(small, utterances, progress, normalize)
    if original is None:
        return Evaluation(errors)
    out = {each.utterance for each in errors.left_out}
    scored = [each for each in utterances if each not in out]
    before = measure(original, scored, progress, normalize)
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

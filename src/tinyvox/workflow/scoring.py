"""Error rates of a model on a manifest, beside those of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox import runtime
from tinyvox.evaluation import Errors, change_interval
from tinyvox.evaluation import evaluate as measure
from tinyvox.importers import load
from tinyvox.model import Model
from tinyvox.progress import Progress, silent
from tinyvox.runtime import Session
from tinyvox.speech import Utterance, read_manifest

Recognizer = Model | Session


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model and, where one was given, of the original on the same utterances."""

    errors: Errors
    original: Errors | None = None

    @property
    def wer(self) -> float:
        """The word error rate, greedily decoded without a language model."""
        return self.errors.wer

    def summary(self) -> dict[str, Any]:
        """The keys that `eval --json` prints."""
        facts = self.errors.summary()
        if self.original is not None:
            facts["original"] = self.original.summary()
            facts["wer_change"] = self.errors.wer - self.original.wer
            facts["wer_change_interval"] = list(change_interval(self.original, self.errors))
        return facts


def evaluate(
    model: Recognizer | Path | str,
    data: Path | str | Sequence[Utterance],
    *,
    against: Recognizer | Path | str | None = None,
    card: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Transcribe a manifest, or utterances, and count word and character errors.

    Models are open ones or files; a .tvx file runs in the native runtime, others in torch. Raises
    FileError or ImporterError for a model that cannot be opened, ModelError for one without a
    speech card, DataError for speech that cannot be used or has no transcripts.
    """
    utterances = read_manifest(Path(data)) if isinstance(data, Path | str) else data
    small = open_recognizer(model, card)
    original = None if against is None else open_recognizer(against, card)
    errors = measure(small, utterances, progress)
    if original is None:
        return Evaluation(errors)
    return Evaluation(errors, measure(original, utterances, progress))


def open_recognizer(model: Recognizer | Path | str, card: Path | None = None) -> Recognizer:
    """A native session for a .tvx file, else a model for torch; open ones as they are."""
    if not isinstance(model, Path | str):
        return model
    if Path(model).suffix.lower() != ".tvx" or card is not None:
        return load(model, card)
    return runtime.open(model)

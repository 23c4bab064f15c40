"""Error rates of a model on a manifest, beside those of the original."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox.errors import DataError
from tinyvox.evaluation import (
    Errors,
    Normalize,
    change_interval,
    check_normalize,
    search_for,
)
from tinyvox.evaluation import evaluate as measure
from tinyvox.hearing import workers_of
from tinyvox.language_model import LanguageModel
from tinyvox.progress import Progress, silent
from tinyvox.speech import Manifest, Utterance
from tinyvox.workflow.hearing import FileEar, Recognizer, ear_of, errors_of, open_recognizer


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
    workers: int = 1,
    ray: str | None = None,
    texts: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Transcribe a manifest, or utterances, and count word and character errors.

    Models are open ones or files; a .tvx file runs in the native runtime, others in torch. They are
    decoded greedily, or, with a language model or settings of a `BeamSearch` in `search`, by a beam
    search. With `normalize="lower"` references and texts are compared in lower case. Utterances
    without a transcript, and those whose audio cannot be used, are left out: `errors.left_out` has
    them.

    With several `workers`, or the address of a Ray cluster in `ray`, utterances are shared among
    processes. With `texts`, a file, what is heard is written there as JSON lines, and the same call
    goes on where it was stopped. All these take files, not open models.

    Raises FileError or ImporterError for a model that cannot be opened, ModelError for one without
    a speech card, or with tokens that do not fit the words, DataError where a manifest cannot be
    used, audio is missing, or no utterance can be scored.
    """
    check_normalize(normalize)
    utterances = _utterances(data)
    if workers > 1 or ray is not None or texts is not None:
        models = [model] if against is None else [model, against]
        ears = [ear_of(each, card, lm, search) for each in models]
        return _by_workers(ears, utterances, (workers, ray), texts, normalize, progress)
    decoded = [open_recognizer(each, card) for each in (model, against) if each is not None]
    wanted = lm is not None or bool(search)
    searches = [search_for(each, lm, search or {}) if wanted else None for each in decoded]
    errors = measure(decoded[0], utterances, progress, normalize, searches[0])
    if against is None:
        return Evaluation(errors)
    before = measure(decoded[1], _scored(utterances, errors), progress, normalize, searches[1])
    return _compared(errors, before)


def _by_workers(
    ears: Sequence[FileEar],
    utterances: Collection[Utterance],
    who: tuple[int, str | None],
    texts: Path | None,
    normalize: Normalize,
    progress: Progress,
) -> Evaluation:
    """The errors of a model and, if there are two ears, of the original, whose texts are beside
    those of the model."""
    with workers_of(*who) as executor:
        errors = errors_of(ears[0], utterances, executor, texts, normalize, progress)
        if len(ears) == 1:
            return Evaluation(errors)
        utterances = _scored(utterances, errors)
        others = texts and texts.with_name(f"{texts.stem}.original{texts.suffix}")
        before = errors_of(ears[1], utterances, executor, others, normalize, progress)
    return _compared(errors, before)


def _scored(utterances: Collection[Utterance], errors: Errors) -> Collection[Utterance]:
    """The utterances that errors were counted on."""
    if not errors.left_out:
        return utterances
    out = {each.utterance for each in errors.left_out}
    return [each for each in utterances if each not in out]


def _compared(errors: Errors, before: Errors) -> Evaluation:
    if before.left_out:
        raise DataError(before.left_out[0].reason)
    return Evaluation(errors, before)


def _utterances(data: Path | str | Sequence[Utterance]) -> Collection[Utterance]:
    return Manifest(Path(data)) if isinstance(data, Path | str) else data

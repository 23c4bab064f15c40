"""Errors over sets of any size: heard by workers, counted as they come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tinyvox import runtime
from tinyvox.errors import ModelError
from tinyvox.evaluation import (
    Errors,
    LeftOut,
    Normalize,
    Tally,
    search_for,
    tokens_of,
    transcribe_with,
)
from tinyvox.hearing import Listener, digest_of, heard_with_texts
from tinyvox.importers import load, model_files
from tinyvox.model import Model
from tinyvox.progress import Progress, counted, silent
from tinyvox.runtime import Session
from tinyvox.speech import Utterance
from tinyvox.workers import Executor

Recognizer = Model | Session


@dataclass(frozen=True)
class FileEar:
    """A file of any model; a .tvx file runs in the native runtime, others in torch."""

    model: Path
    card: Path | None = None
    lm: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def opened(self) -> Listener:
        """The recognizer, open, on one thread. Raises as `open_recognizer` and `search_for` do."""
        torch.set_num_threads(1)  # every processor has its worker
        recognizer = open_recognizer(self.model, self.card)
        wanted = self.lm is not None or bool(self.settings)
        search = search_for(recognizer, self.lm, self.settings) if wanted else None
        transcribe, rate = transcribe_with(recognizer, search)
        return lambda audio: {"text": transcribe(audio)}, rate

    def digest(self) -> str:
        """Of the files, the model's card beside it among them, and the settings."""
        return digest_of((*model_files(self.model), self.card, self.lm), self.settings)


def open_recognizer(model: Recognizer | Path | str, card: Path | None = None) -> Recognizer:
    """A native session for a .tvx file, else a model for torch; open ones as they are."""
    if not isinstance(model, Path | str):
        return model
    if Path(model).suffix.lower() != ".tvx" or card is not None:
        return load(model, card)
    return runtime.open(model)


def ear_of(
    model: object, card: Path | None, lm: object, settings: Mapping[str, Any] | None
) -> FileEar:
    """What workers open. Raises ModelError for a model that is open already: it cannot go to other
    processes."""
    files = [Path(each) if isinstance(each, str) else each for each in (model, lm)]
    if not isinstance(files[0], Path) or not isinstance(files[1], Path | None):
        raise ModelError("workers and texts take the names of files, not open models")
    return FileEar(files[0], card, files[1], dict(settings or {}))


def errors_of(
    ear: FileEar,
    utterances: Collection[Utterance],
    executor: Executor | None,
    texts: Path | None = None,
    normalize: Normalize = "none",
    progress: Progress = silent,
) -> Errors:
    """The errors of an ear, as `evaluation.evaluate` counts them; `texts` as in
    `heard_with_texts`. `seconds` are those of all workers together."""
    tokens = tokens_of(open_recognizer(ear.model, ear.card))
    tally = Tally(normalize)
    pairs = heard_with_texts(ear, utterances, executor, texts, scored=True)
    for utterance, heard in counted(pairs, "transcribing", progress, len(utterances)):
        if heard.error is not None:
            tally.left_out.append(LeftOut(utterance, heard.error))
            continue
        tally.seconds += heard.seconds
        tally.audio_seconds += heard.audio_seconds
        tally.add(utterance.text, heard.result["text"], utterance)
    return tally.errors(tokens)

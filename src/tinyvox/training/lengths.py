"""Whether utterances are long enough for their transcripts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tinyvox.errors import DataError
from tinyvox.executor import output_frames
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, Update, silent
from tinyvox.runtime import extract_features
from tinyvox.speech import Audio, Corpus, Utterance

STAGE = "reading audio"


@dataclass(frozen=True)
class Room:
    """The frames that CTC has for a transcript, and those that it needs.

    Frames are those that `model` makes of the features of a card; without a model, the features.
    """

    card: SpeechCard
    model: Model | None = None

    def features(self, audio: Audio) -> Tensor:
        """Features of an utterance, float32 [frames, size]."""
        return torch.from_numpy(extract_features(self.card.features.model_dump(), audio))

    def frames(self, features: Tensor) -> int:
        """Frames of the model's output for features of an utterance."""
        lengths = torch.tensor([len(features)])
        return int(lengths if self.model is None else output_frames(self.model, lengths))

    def needed(self, text: str) -> int:
        """The fewest frames for a transcript: one a token, one for the blank that CTC needs between
        equal neighbors, and one at least (Graves 2006)."""
        tokens = self.card.encode(text)
        return max(1, len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens)))


def load_audio(
    corpus: Corpus, card: SpeechCard, model: Model | None = None, progress: Progress = silent
) -> list[tuple[Path, str]]:
    """Read all audio of a corpus into memory, and leave out what no transcript fits into: clips
    with fewer frames, of the output of `model`, than their transcripts need, and empty ones.

    Returns each manifest of which something is left out, and what. `progress` is told of each file,
    in the stage "reading audio", and of this by notes. Raises DataError for a file that cannot be
    read, or whose features are no numbers, and where nothing of a manifest is left.
    """
    room, total = Room(card, model), sum(len(utterances) for utterances in corpus.kept)
    short: dict[Utterance, str] = {}
    for done, utterance in enumerate(corpus.load(), 1):
        if fault := _fault(room, utterance, corpus.audio(utterance)):
            short[utterance] = fault
        progress(Update(STAGE, done, total))
    notes = []
    for source, utterances in zip(corpus.sources, corpus.kept, strict=True):
        found = [utterance for utterance in utterances if utterance in short]
        if found and len(found) == len(utterances):
            raise DataError(f"{source.manifest}: no utterance can be used: {short[found[0]]}")
        if found:
            notes.append((source.manifest, _left_out(found, utterances, short[found[0]])))
            progress(Update(STAGE, total, total, note=": ".join(map(str, notes[-1]))))
    corpus.leave_out(short.__contains__)
    return notes


def _fault(room: Room, utterance: Utterance, audio: Audio) -> str | None:
    """Why CTC cannot use an utterance; None where it can."""
    features = room.features(audio)
    if not bool(features.isfinite().all()):
        raise DataError(f"{utterance.path}: its features are not all finite; check the audio")
    frames, needed = room.frames(features), room.needed(utterance.text)
    return None if frames >= needed else too_short(str(utterance.path), frames, needed)


def too_short(what: str, frames: int, needed: int) -> str:
    """One line: what has how many frames, and what its transcript needs."""
    return (
        f"{what} has {frames} frames, and its transcript needs {needed}; check that audio and "
        "transcripts belong together"
    )


def _left_out(found: Sequence[Utterance], all_: Sequence[Utterance], first: str) -> str:
    return f"{len(found)} of {len(all_)} utterances are left out: {first}"

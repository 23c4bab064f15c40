"""Batches of utterances, drawn from a corpus; and random changes of their features."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinyvox.errors import DataError
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, silent
from tinyvox.runtime import extract_features
from tinyvox.speech import Corpus, check_transcripts
from tinyvox.training.configuration import TrainConfig
from tinyvox.training.lengths import Room, load_audio, too_short

POOL = 4
"""Batches that are drawn at once and sorted by length."""
MOST_MISSED = 1000
"""Utterances that are too short once augmented, and drawn again, in a row, at most."""
FRAMES_MULTIPLE = 16
"""Batches are padded to multiples of it, as oneDNN compiles a kernel for every new shape."""


@dataclass(frozen=True)
class Position:
    """A place in the stream of batches: the state of the random generator (JSON) before a pool of
    batches was drawn, and how many batches of that pool have been taken."""

    generator: str
    taken: int


@dataclass(frozen=True)
class Batch:
    """Features, float32 [batch, frames, size], and their lengths, int64 [batch]; the targets of all
    utterances one after the other, int64, and their lengths, int64 [batch].

    `position` is the place in the stream of batches after this one; `files` are the audio files
    that the batch was made of. `transcribed`, bool [batch], are the utterances with a transcript,
    None where all have one; those without have no targets. `teacher`, float16 [batch, frames',
    tokens], are the outputs of the teacher where they are known already. `shares` are the parts of
    the target tokens and of the frames that this is, of a batch that several processes share.
    """

    features: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    position: Position | None = None
    files: tuple[Path, ...] = ()
    transcribed: Tensor | None = None
    teacher: Tensor | None = None
    shares: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Item:
    """An utterance of a batch: features [frames, size], target tokens, audio files, whether there
    is a transcript, and the teacher's outputs where they are known."""

    features: Tensor
    target: list[int]
    seconds: float
    files: tuple[Path, ...]
    transcribed: bool = True
    teacher: Tensor | None = None


Items = list[Item]


class Batches:
    """An endless stream of batches of about `seconds` of audio each.

    Utterances of like length are in one batch. A thread draws the next batches while the present
    ones are trained on. The stream begins with `seed`, or goes on from `position`. The outputs of
    `model`, by default as many frames as the features, say which utterances are long enough.
    """

    def __init__(
        self,
        corpus: Corpus,
        card: SpeechCard,
        seconds: float,
        seed: int,
        position: Position | None = None,
        model: Model | None = None,
    ) -> None:
        self.corpus, self.seconds, self.room = corpus, seconds, Room(card, model)
        self.rng = np.random.default_rng(seed)
        self.taken = 0 if position is None else position.taken
        if position is not None:
            self._go_on(json.loads(position.generator))

    def __iter__(self) -> Iterator[Batch]:
        """The batches, each with its position."""
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(self._pool)
            while True:
                generator, pool = ahead.result()
                ahead = thread.submit(self._pool)
                # Padding is done in this thread: torch's parallel operators in a second thread let
                # the threads of OpenMP sleep between steps, which took half as long again.
                for taken, items in enumerate(pool[self.taken :], self.taken + 1):
                    yield _padded(items, Position(generator, taken))
                self.taken = 0

    def _pool(self) -> tuple[str, list[Items]]:
        """The state of the random generator, and the batches that are then drawn."""
        generator = json.dumps(self._state())
        drawn: Items = []
        total = 0.0
        while total < self.seconds * POOL:
            item = self._draw()
            drawn.append(item)
            total += item.seconds
        drawn.sort(key=lambda item: len(item.features))
        batches = list(self._cut(drawn))
        self.rng.shuffle(batches)
        return generator, batches

    def _state(self) -> dict[str, Any]:
        """What the batches that come depend on."""
        return dict(self.rng.bit_generator.state)

    def _go_on(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state

    def _draw(self) -> Item:
        """An utterance that is long enough for its transcript, augmented."""
        for _ in range(MOST_MISSED):
            drawn = self.corpus.draw(self.rng)
            features = self.room.features(drawn.audio)
            frames, needed = self.room.frames(features), self.room.needed(drawn.text)
            if frames >= needed:
                target = self.room.card.encode(drawn.text)
                seconds = len(drawn.audio) / self.corpus.rate
                return Item(features, target, seconds, drawn.paths, drawn.transcribed)
        what = " and ".join(map(str, drawn.paths))
        raise DataError(
            f"none of {MOST_MISSED} augmented utterances is long enough: {what}, as augmented, "
            f"{too_short('', frames, needed).lstrip()}"
        )

    def _cut(self, drawn: Items) -> Iterator[Items]:
        frames_a_batch = self.seconds * 1000 / self.room.card.features.hop_ms
        batch: Items = []
        for item in drawn:
            if batch and (len(batch) + 1) * len(item.features) > frames_a_batch:
                yield batch
                batch = []
            batch.append(item)
        yield batch


def _padded(items: Items, position: Position) -> Batch:
    features = torch.nn.utils.rnn.pad_sequence([item.features for item in items], batch_first=True)
    tokens = [token for item in items for token in item.target]
    transcribed = [item.transcribed for item in items]
    known = [item.teacher for item in items if item.teacher is not None]
    return Batch(
        F.pad(features, [0, 0, 0, -features.shape[1] % FRAMES_MULTIPLE]),
        torch.tensor([len(item.features) for item in items]),
        torch.tensor(tokens, dtype=torch.int64),
        torch.tensor([len(item.target) for item in items]),
        position,
        tuple(path for item in items for path in item.files),
        None if all(transcribed) else torch.tensor(transcribed),
        torch.nn.utils.rnn.pad_sequence(known, batch_first=True) if known else None,
    )


def open_corpus(config: TrainConfig) -> Corpus:
    """The speech of a configuration: manifests are checked now, audio is read when it is drawn.

    Raises DataError where a manifest cannot be read, or a transcript has a character that is no
    token.
    """
    card = config.card()
    texts = [text for i, text in enumerate(card.texts) if i != card.blank]
    alphabet = {character for text in texts for character in text}
    corpus = Corpus(config.data, config.augment, alphabet, config.features.sample_rate)
    if any(len(text) > 1 for text in texts):
        _check_pieces(card, corpus)
    return corpus


def _check_pieces(card: SpeechCard, corpus: Corpus) -> None:
    """Raise DataError for a transcript that the pieces of words do not make up."""
    for source, utterances in zip(corpus.sources, corpus.kept, strict=True):
        for utterance in utterances:
            try:
                card.encode(utterance.text)
            except KeyError as error:
                raise DataError(
                    f"{source.manifest}: {utterance.path}: no tokens of the card make up the "
                    f"transcript from {error} on; use the card's own spelling, or leave it out"
                ) from None


def load_corpus(config: TrainConfig, progress: Progress = silent) -> Corpus:
    """`open_corpus`, then `load_audio`."""
    corpus = open_corpus(config)
    for source, utterances in zip(corpus.sources, corpus.kept, strict=True):
        check_transcripts(source.manifest, utterances, "training")
    load_audio(corpus, config.card(), progress=progress)
    return corpus


def normalized(card: SpeechCard, corpus: Corpus, seed: int, utterances: int = 400) -> SpeechCard:
    """The card with the mean and the standard deviation of each feature, measured on so many
    augmented utterances. Raises DataError where none of them is long enough for a frame."""
    rng = np.random.default_rng(seed)
    plain = card.features.model_copy(update={"mean": (), "deviation": ()})
    settings = plain.model_dump()
    frames = np.concatenate(
        [extract_features(settings, corpus.draw(rng).audio) for _ in range(utterances)]
    )
    if not len(frames):
        raise DataError(f"none of {utterances} augmented utterances is long enough for a frame")
    mean = tuple(round(float(v), 4) for v in frames.mean(axis=0))
    deviation = tuple(round(float(v), 4) for v in frames.std(axis=0) + 1e-3)
    features = plain.model_copy(update={"mean": mean, "deviation": deviation})
    return card.model_copy(update={"features": features})


def shift_channel(features: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Add to each feature a random constant with this standard deviation, another for every
    utterance. Shape [batch, frames, size]."""
    batch, _, size = features.shape
    return features + deviation * torch.randn(batch, 1, size, generator=rng)


def mask_time(features: Tensor, count: int, longest: int, rng: torch.Generator) -> Tensor:
    """Set `count` random stretches of each utterance, of up to `longest` frames, to zero. Shape
    [batch, frames, size].

    Source: Park et al., "SpecAugment", 2019, section 2.
    """
    batch, frames, _ = features.shape
    index = torch.arange(frames)[None]
    for _ in range(count):
        size = torch.randint(0, longest + 1, (batch, 1), generator=rng)
        start = torch.randint(0, max(1, frames), (batch, 1), generator=rng)
        features = features * ((index < start) | (index >= start + size))[:, :, None]
    return features

"""Calibration without data: batches of synthetic speech.

Two kinds of it, as each shows what the other does not: sounds of a vocal tract through the model's
own feature extractor (`synthesize_speech`), and random features that drift from frame to frame. A
card that normalizes its features says what the features of speech are like: of mean 0 and deviation
1. Both kinds are brought to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tinyvox.calibration.gathering import gather
from tinyvox.calibration.statistics import Batch, Moments
from tinyvox.calibration.synthetic_speech import synthesize_speech
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, Update, silent
from tinyvox.runtime import extract_features

FRAMES = 50
"""The frames of a second of random features."""
BATCH = 32
CORRELATION = 0.7
"""Of each random feature from one frame to the next; about that of cepstra every 20 ms."""
DAMPING = 0.05
"""Share of the mean energy that is added in every direction, as synthetic speech does not show all
of real speech."""


@dataclass(frozen=True)
class SyntheticAmount:
    """How many utterances are made, `sounds` of a vocal tract and `features` at random, and about
    how many seconds each lasts."""

    sounds: int = 160
    features: int = 32
    seconds: float = 3.0


SYNTHETIC_AMOUNT = SyntheticAmount()
"""What is made where nothing else is asked for."""


class SyntheticSource:
    """Synthetic speech as a source of batches, so much of it, drawn by `seed`."""

    def __init__(self, seed: int, amount: SyntheticAmount = SYNTHETIC_AMOUNT) -> None:
        self.seed, self.amount = seed, amount
        self._last: tuple[SpeechCard | None, tuple[int, int | None], list[Batch]] | None = None

    def batches(self, model: Model, progress: Progress = silent) -> Iterator[Batch]:
        """Features for the model. They are kept for other models of the same card."""
        wanted = model.card, (model.input_size, model.ids)
        if self._last is None or self._last[:2] != wanted:
            self._last = *wanted, synthetic_batches(model, self.seed, self.amount)
        done, total = 0, sum(len(batch.lengths) for batch in self._last[2])
        for batch in self._last[2]:
            progress(Update("calibrating", done, total))
            yield batch
            done += len(batch.lengths)
        progress(Update("calibrating", done, total))

    def gather(self, model: Model, progress: Progress) -> Mapping[str, Moments]:
        """The moments and Fisher information of the model's matrices; nothing for a model without a
        speech card, as only the card says what speech looks like to the model."""
        if model.card is None:
            return {}
        batches = self.batches(model, progress)
        return gather(model, batches, DAMPING, fisher=True, seed=self.seed)

    def key(self, digest: str) -> None:
        """None: the statistics are not kept on disk."""


def synthetic_batches(
    model: Model, seed: int, amount: SyntheticAmount = SYNTHETIC_AMOUNT
) -> list[Batch]:
    """Features of synthetic speech; for a model without a card, random features, or random token
    ids, alone."""
    found: list[Tensor] = []
    if model.ids is not None:
        frames = round(FRAMES * amount.seconds)
        return _batches(list(_random_ids(amount.features, model.ids, seed, frames)))
    if model.card is not None:
        found = _sounds(model.card, amount, seed)
    if model.card is None or model.card.features.mean:
        frames = round(FRAMES * amount.seconds)
        found += synthetic_features(amount.features, model.input_size, seed, frames)
    return _batches(found)


def _batches(found: list[Tensor]) -> list[Batch]:
    return [Batch.of(found[start : start + BATCH]) for start in range(0, len(found), BATCH)]


def _random_ids(utterances: int, ids: int, seed: int, frames: int) -> Tensor:
    """Random token ids, [utterances, frames, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(ids, (utterances, frames, 1), generator=generator).float()


def _sounds(card: SpeechCard, amount: SyntheticAmount, seed: int) -> list[Tensor]:
    """Features of so many sounds, [frames, size] each, of mean 0 and deviation 1 where the card
    normalizes its features."""
    rng = np.random.default_rng(seed)
    settings, rate = card.features.model_dump(), card.features.sample_rate
    found = [
        torch.from_numpy(extract_features(settings, synthesize_speech(amount.seconds, rate, rng)))
        for _ in range(amount.sounds)
    ]
    if not card.features.mean:
        return found
    frames = torch.cat(found)
    mean, deviation = frames.mean(0), frames.std(0).clamp(min=1e-3)
    return [(features - mean) / deviation for features in found]


def synthetic_features(utterances: int, size: int, seed: int, frames: int = 3 * FRAMES) -> Tensor:
    """Random features in place of normalized ones of speech, [utterances, frames, size]."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(utterances, frames, size, generator=generator)
    new = (1 - CORRELATION**2) ** 0.5
    for frame in range(1, frames):
        features[:, frame] = CORRELATION * features[:, frame - 1] + new * features[:, frame]
    return features

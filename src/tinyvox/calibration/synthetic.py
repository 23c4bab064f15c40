"""Statistics without data: what a model's matrices do when they hear synthetic speech.

Two kinds of it, as each misses what the other shows: sounds of a vocal tract through the model's
own feature extractor (`synthesize_speech`), and features that drift at random. A card that normalizes its
features says how speech looks to the model, mean 0 and deviation 1, and both are made to.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tinyvox.calibration.statistics import (
    NO_STATISTICS,
    Batch,
    CalibratedStatistics,
    Statistics,
    gather,
)
from tinyvox.calibration.synthetic_speech import synthesize_speech
from tinyvox.model import Model, SpeechCard
from tinyvox.runtime import extract_features

SOUNDS, SECONDS = 160, 3.0
"""Synthetic utterances, and how long each lasts, about."""
UTTERANCES, FRAMES = 32, 150
"""The same of random features."""
BATCH = 32
CORRELATION = 0.7
"""Of each random feature from one frame to the next; about that of cepstra every 20 ms."""
DAMPING = 0.05
"""Synthetic speech does not show all: this share of the mean energy is added to every direction."""


def synthetic_statistics(model: Model, seed: int = 0) -> Statistics:
    """Moments and Fisher information from synthetic speech; nothing without a speech card, which says
    what speech looks like to the model. Deterministic by `seed`."""
    if model.card is None:
        return NO_STATISTICS
    batches = synthetic_batches(model, seed)
    statistics = gather(model, batches, DAMPING, fisher=True, seed=seed)
    return CalibratedStatistics(statistics, model, lambda: batches)


def synthetic_batches(
    model: Model, seed: int, sounds: int = SOUNDS, utterances: int = UTTERANCES
) -> list[Batch]:
    """Features of synthetic speech; for a model without a card random ones alone."""
    found: list[Tensor] = []
    if model.card is not None:
        found = _sounds(model.card, sounds, seed)
    if model.card is None or model.card.features.mean:
        found += synthetic_features(utterances, model.input_size, seed)
    return [Batch.of(found[start : start + BATCH]) for start in range(0, len(found), BATCH)]


def _sounds(card: SpeechCard, count: int, seed: int) -> list[Tensor]:
    """Features of so many sounds, [frames, size] each, of mean 0 and deviation 1 where the card
    says that speech has those."""
    rng = np.random.default_rng(seed)
    settings, rate = card.features.model_dump(), card.features.sample_rate
    found = [
        torch.from_numpy(extract_features(settings, synthesize_speech(SECONDS, rate, rng)))
        for _ in range(count)
    ]
    if not card.features.mean:
        return found
    frames = torch.cat(found)
    mean, deviation = frames.mean(0), frames.std(0).clamp(min=1e-3)
    return [(features - mean) / deviation for features in found]


def synthetic_features(utterances: int, size: int, seed: int) -> Tensor:
    """Random stand-ins for normalized features of speech, [utterances, FRAMES, size]."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(utterances, FRAMES, size, generator=generator)
    new = (1 - CORRELATION**2) ** 0.5
    for frame in range(1, FRAMES):
        features[:, frame] = CORRELATION * features[:, frame - 1] + new * features[:, frame]
    return features

"""What an acoustic model makes of audio, before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tinyvox.errors import ModelError
from tinyvox.executor import Executor
from tinyvox.model import Model, SpeechCard
from tinyvox.runtime import Session, extract_features
from tinyvox.speech import Audio

NO_CARD = "this model has no speech card, so it gives no text; add --card FILE"

Outputs = NDArray[np.float32]
"""Logarithms of the probabilities of tokens, [frames, tokens]."""


def outputs_of(model: Model | Session) -> tuple[Callable[[Audio], Outputs], int]:
    """A function that gives the outputs for samples, and the sample rate (Hz) that they must have.

    Raises ModelError where the model has no speech card.
    """
    card = None if isinstance(model, Session) else model.card
    if isinstance(model, Session) and model.has_speech:
        return lambda audio: log_softmax(model.run(model.features(audio))), model.sample_rate
    if card is None or isinstance(model, Session):
        raise ModelError(NO_CARD)
    return _in_torch(model, card), card.features.sample_rate


def log_softmax(scores: NDArray[np.float32]) -> Outputs:
    """Raw scores as logarithms of probabilities, [frames, tokens]; these stay as they are."""
    shifted = scores - scores.max(axis=-1, keepdims=True, initial=-np.inf)
    total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.asarray(shifted - total, np.float32)


def _in_torch(model: Model, card: SpeechCard) -> Callable[[Audio], Outputs]:
    executor = Executor(model).eval()

    def outputs(audio: Audio) -> Outputs:
        features = extract_features(card.features.model_dump(), audio)
        if not len(features):
            return np.zeros((0, len(card.texts)), np.float32)
        with torch.inference_mode():
            return log_softmax(executor(torch.from_numpy(features)[None])[0].numpy())

    return outputs

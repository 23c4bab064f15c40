"""Evidence from speech: what a model's matrices are multiplied by when it hears utterances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tinyvox.card import SpeechCard
from tinyvox.corpus import Utterance, read_audio, read_manifest
from tinyvox.errors import DataError, ModelError
from tinyvox.evidence import Evidence, gather
from tinyvox.model import Model
from tinyvox.runtime import extract_features


def observe(
    model: Model,
    data: Path | str | Sequence[Utterance],
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Moments of the inputs of every linear and recurrent matrix over utterances, or those of a
    manifest.

    Transcripts are not looked at. One utterance at a time is in memory; a few minutes of speech are
    enough. Raises ModelError where the model has no speech card, DataError where the manifest or
    its audio cannot be used, or is too short for a frame.
    """
    if model.card is None:
        raise ModelError("evidence from audio needs a speech card; add --speech FILE")
    where = str(data) if isinstance(data, Path | str) else f"{len(data)} utterances"
    utterances = read_manifest(Path(data)) if isinstance(data, Path | str) else data
    evidence = gather(model, _features(model.card, utterances, progress))
    if not evidence:
        raise DataError(f"{where}: no utterance is long enough for a frame of features")
    return evidence


def _features(
    card: SpeechCard,
    utterances: Sequence[Utterance],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Tensor]:
    settings = card.features.model_dump()
    for done, utterance in enumerate(utterances, start=1):
        features = extract_features(settings, read_audio(utterance.path, card.features.sample_rate))
        if len(features):
            yield torch.from_numpy(features)[None]
        if progress is not None:
            progress(done, len(utterances))

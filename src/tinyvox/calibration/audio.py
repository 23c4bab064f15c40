"""Calibration on audio: batches of features, and the divergence of a changed model's outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tinyvox.calibration.divergence import OutputDivergence
from tinyvox.calibration.gathering import gather
from tinyvox.calibration.statistics import Batch, Moments
from tinyvox.calibration.stored import FORMAT
from tinyvox.errors import DataError, ModelError
from tinyvox.model import Model, SpeechCard
from tinyvox.progress import Progress, counted, silent
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, check_audio, read_manifest, read_utterance, spread

BATCH_SECONDS = 240.0
"""Seconds of audio that are in memory at a time. A recurrent layer reads all its weights for every
step, so many utterances at a time take hardly longer than a few."""
DIVERGENCE_UTTERANCES = 60
"""Utterances on which changed models are compared with the original."""

Fisher = Literal["transcripts", "outputs"]


class AudioSource:
    """Utterances as a source of batches, in an order drawn by `seed`.

    `fisher` says of what Fisher information is taken: of the transcripts (CTC), or of the model's
    own outputs, which needs no transcripts; with None of nothing.
    """

    def __init__(
        self, data: Path | str | Sequence[Utterance], fisher: Fisher | None, seed: int
    ) -> None:
        """Read the manifest. Raises DataError where it cannot be used, or audio is missing."""
        if isinstance(data, Path | str):
            self.utterances, self.where = read_manifest(Path(data)), str(data)
            check_audio(Path(data), self.utterances)
        else:
            self.utterances, self.where = list(data), f"{len(data)} utterances"
        self.fisher, self.seed = fisher, seed
        order = np.random.default_rng(seed).permutation(len(self.utterances))
        self._shuffled = [self.utterances[int(i)] for i in order]  # as the first ones say most

    def batches(self, model: Model, progress: Progress = silent) -> Iterator[Batch]:
        """Features of the utterances, some minutes of audio at a time, with tokens where Fisher
        information of transcripts is asked for.

        Raises ModelError where the model has no speech card, DataError where audio cannot be read
        or a transcript is missing.
        """
        if model.card is None:
            raise ModelError("calibration on audio needs a speech card; add --card FILE")
        transcribed = self.fisher == "transcripts"
        return feature_batches(model.card, self._shuffled, transcribed, progress)

    def gather(self, model: Model, progress: Progress) -> Mapping[str, Moments]:
        """The moments of the model's matrices. Raises as `batches` does, and DataError where the
        audio is too short for a frame."""
        batches = self.batches(model, progress)
        moments = gather(model, batches, fisher=self.fisher is not None, seed=self.seed)
        if not moments:
            raise DataError(f"{self.where}: no utterance is long enough for a frame of features")
        return moments

    def key(self, digest: str) -> str:
        """The same for the same model (by its digest), audio files, transcripts and settings.
        Raises DataError where an audio file is missing."""
        key = hashlib.sha256(f"{FORMAT} {self.fisher} {self.seed} {digest}".encode())
        for utterance in self.utterances:
            try:
                changed = utterance.file.stat()
            except OSError as error:
                raise DataError(f"{utterance.file}: cannot be read: {error.strerror}") from error
            text = utterance.spoken if self.fisher == "transcripts" else ""
            stretch = (utterance.offset, utterance.duration)
            parts = (utterance.path.resolve(), changed.st_size, changed.st_mtime_ns, text, stretch)
            key.update(repr(parts).encode())
        return key.hexdigest()[:24]


def features_of(card: SpeechCard, utterance: Utterance) -> Tensor:
    """The features of an utterance as the card describes them, [frames, size]."""
    audio = read_utterance(utterance, card.features.sample_rate)
    return torch.from_numpy(extract_features(card.features.model_dump(), audio))


def divergence_on_audio(
    model: Model, utterances: Sequence[Utterance], count: int = DIVERGENCE_UTTERANCES
) -> OutputDivergence:
    """The divergence of changed models from this one on at most `count` of these utterances, taken
    evenly from the list. Raises ModelError where the model has no speech card, DataError as
    `feature_batches` does and where no utterance is long enough for a frame."""
    if model.card is None:
        raise ModelError("output divergence on audio needs a speech card; add --card FILE")
    batches = list(feature_batches(model.card, spread(utterances, count)))
    if not batches:
        raise DataError(
            f"{utterances[0].path}: neither this utterance nor the other {len(utterances) - 1} "
            "that judge plans are long enough for a frame; give longer ones by --dev"
        )
    return OutputDivergence(model, batches)


def feature_batches(
    card: SpeechCard,
    utterances: Sequence[Utterance],
    transcribed: bool = False,
    progress: Progress = silent,
) -> Iterator[Batch]:
    """Features of utterances, some minutes of audio at a time; with their tokens if `transcribed`.

    Raises DataError where audio cannot be read, or an utterance has no transcript.
    """
    frames_a_batch = BATCH_SECONDS * 1000 / card.features.hop_ms
    features: list[Tensor] = []
    tokens: list[list[int]] = []
    for done, utterance in enumerate(counted(utterances, "calibrating", progress), start=1):
        found = features_of(card, utterance)
        if len(found):
            features.append(found)
            tokens.append(_tokens(card, utterance) if transcribed else [])
        full = features and max(map(len, features)) * (len(features) + 1) > frames_a_batch
        if features and (full or done == len(utterances)):
            yield Batch.of(features, tokens if transcribed else None)
            features, tokens = [], []


def _tokens(card: SpeechCard, utterance: Utterance) -> list[int]:
    if not utterance.spoken:
        raise DataError(
            f"{utterance.path}: no transcript in the manifest, which Fisher information of "
            "transcripts needs; take that of the outputs"
        )
    return card.encode(utterance.spoken)

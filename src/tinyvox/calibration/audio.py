"""Statistics from speech: what a model's matrices are multiplied by when it hears utterances."""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from tinyvox.calibration.divergence import OutputDivergence
from tinyvox.calibration.statistics import Batch, CalibratedStatistics, Moments, Statistics, gather
from tinyvox.errors import DataError, ModelError
from tinyvox.model import Model, SpeechCard
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, read_audio, read_manifest, spread

BATCH_SECONDS = 60.0
"""Of audio that is in memory at a time."""
DIVERGENCE_UTTERANCES = 60
"""Utterances that changed models are held against."""
FORMAT = "tinyvox statistics 3"

Fisher = Literal["transcripts", "outputs"]


def statistics_from_audio(
    model: Model,
    data: Path | str | Sequence[Utterance],
    progress: Callable[[int, int], None] | None = None,
    *,
    fisher: Fisher | None = None,
    cache: Path | None = None,
) -> Statistics:
    """Moments of the inputs of every matrix over utterances, or those of a manifest.

    With `fisher` the Fisher information of what each matrix puts out as well: of the transcripts
    (CTC), or of the model's own outputs, which takes no transcripts. A minute of audio at a time is
    in memory; a few minutes of speech are enough.

    `cache` is a folder in which the statistics is kept under a hash of the model, the utterances and
    `fisher`; the same call finds it there.

    Raises ModelError where the model has no speech card, DataError where the manifest or its audio
    cannot be used, is too short for a frame, or lacks the transcripts that `fisher` asks for.
    """
    if model.card is None:
        raise ModelError("statistics from audio needs a speech card; add --speech FILE")
    where = str(data) if isinstance(data, Path | str) else f"{len(data)} utterances"
    utterances = read_manifest(Path(data)) if isinstance(data, Path | str) else data
    place = None if cache is None else cache / f"{_key(model, utterances, fisher)}.statistics.npz"
    order = np.random.default_rng(0).permutation(len(utterances))  # the first ones say most
    mixed = [utterances[int(i)] for i in order]
    again = functools.partial(feature_batches, model.card, mixed)
    known = None if place is None else _read(place)
    if known is not None:
        return CalibratedStatistics(known, model, again)
    batches = feature_batches(model.card, mixed, fisher == "transcripts", progress)
    statistics = gather(model, batches, fisher=fisher is not None)
    if not statistics:
        raise DataError(f"{where}: no utterance is long enough for a frame of features")
    if place is not None:
        _write(statistics, place)
        statistics = _read(place) or statistics  # as the next call finds it
    return CalibratedStatistics(statistics, model, again)


def features_of(card: SpeechCard, utterance: Utterance) -> Tensor:
    """What the model is given for an utterance, [frames, size]."""
    audio = read_audio(utterance.path, card.features.sample_rate)
    return torch.from_numpy(extract_features(card.features.model_dump(), audio))


def divergence_on_audio(
    model: Model, utterances: Sequence[Utterance], count: int = DIVERGENCE_UTTERANCES
) -> OutputDivergence:
    """What changed models are held against: so many of these utterances at most, from all over the
    list. Raises ModelError where the model has no speech card, DataError as `feature_batches` does."""
    if model.card is None:
        raise ModelError("a trial on audio needs a speech card; add --speech FILE")
    return OutputDivergence(model, list(feature_batches(model.card, spread(utterances, count))))


def feature_batches(
    card: SpeechCard,
    utterances: Sequence[Utterance],
    transcribed: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Batch]:
    """Features of utterances, a minute of audio at a time; with their tokens if `transcribed`.

    Raises DataError where audio cannot be read, or an utterance has no transcript.
    """
    frames_a_batch = BATCH_SECONDS * 1000 / card.features.hop_ms
    features: list[Tensor] = []
    tokens: list[list[int]] = []
    for done, utterance in enumerate(utterances, start=1):
        found = features_of(card, utterance)
        if len(found):
            features.append(found)
            tokens.append(_tokens(card, utterance) if transcribed else [])
        full = features and max(map(len, features)) * (len(features) + 1) > frames_a_batch
        if features and (full or done == len(utterances)):
            yield Batch.of(features, tokens if transcribed else None)
            features, tokens = [], []
        if progress is not None:
            progress(done, len(utterances))


def _tokens(card: SpeechCard, utterance: Utterance) -> list[int]:
    if not utterance.text.strip():
        raise DataError(
            f"{utterance.path}: no transcript in the manifest, which Fisher information of "
            "transcripts needs; take that of the outputs"
        )
    return card.encode(utterance.text)


def _key(model: Model, utterances: Sequence[Utterance], fisher: Fisher | None) -> str:
    """The same for the same model, the same audio files and the same question."""
    digest = hashlib.sha256(f"{FORMAT} {fisher} {model.digest()}".encode())
    for utterance in utterances:
        try:
            changed = utterance.path.stat()
        except OSError as error:
            raise DataError(f"{utterance.path}: cannot be read: {error.strerror}") from error
        said = utterance.text if fisher == "transcripts" else ""
        parts = (utterance.path.resolve(), changed.st_size, changed.st_mtime_ns, said)
        digest.update(repr(parts).encode())
    return digest.hexdigest()[:24]


def _write(statistics: Statistics, place: Path) -> None:
    """Second moments as float32, which is what single frames are."""
    arrays: dict[str, np.ndarray] = {}
    for name, moments in statistics.items():
        arrays[f"{name}/second"] = moments.second.float().numpy()
        arrays[f"{name}/mean"] = moments.mean.numpy()
        arrays[f"{name}/damping"] = np.array(moments.damping)
        if moments.fisher is not None:
            arrays[f"{name}/fisher"] = moments.fisher.numpy()
        if moments.saliency is not None:
            arrays[f"{name}/saliency"] = moments.saliency.numpy()
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(f".{secrets.token_hex(4)}.partial")  # others may hear the same
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _read(place: Path) -> Statistics | None:
    """What was kept; nothing where there is no such file, or it cannot be read whole."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: torch.from_numpy(held[name]) for name in held.files}
        names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
        return {
            name: Moments(
                arrays[f"{name}/second"].double(),
                arrays[f"{name}/mean"],
                float(arrays[f"{name}/damping"]),
                arrays.get(f"{name}/fisher"),
                arrays.get(f"{name}/saliency"),
            )
            for name in names
        }
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        return None

"""Audio as arrays of samples: read from files, cut, and put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tinyvox.errors import DataError

Audio = NDArray[np.float32]
"""One channel of samples, float32 [samples], full scale at -1 and 1."""


def read_audio(path: Path, rate: int) -> Audio:
    """Samples of a file at `rate` Hz: channels are averaged, other sample rates resampled.

    Raises DataError where the file holds no audio that can be read.
    """
    try:
        audio, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: no audio that can be read: {error}") from error
    mono: Audio = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    if file_rate != rate:
        mono = soxr.resample(mono, file_rate, rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


def join_takes(takes: Sequence[Audio], silences: Sequence[float], rate: int) -> Audio:
    """Put takes one after the other, with these silences (seconds) between them.

    A silence is filled with noise as faint as the quieter end of the take that follows it.
    """
    pieces = [takes[0]]
    for take, silence in zip(takes[1:], silences, strict=True):
        floor = np.float32(min(np.abs(take[:160]).mean(), np.abs(take[-160:]).mean()))
        noise = np.random.default_rng(len(take)).standard_normal(round(silence * rate))
        pieces += [(noise * floor).astype(np.float32), take]
    return np.concatenate(pieces)


def trim_silence(audio: Audio, rate: int, floor_db: float = 32.0, margin: float = 0.06) -> Audio:
    """Cut off a quiet beginning and a quiet end.

    Quiet is what lies `floor_db` decibels below the loudest 10 ms; `margin` seconds of it stay on
    each side. Audio shorter than 30 ms, or without a sound, comes back unchanged.
    """
    hop = rate // 100
    frames = len(audio) // hop
    if frames < 3:
        return audio
    energy = (audio[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1)
    loud = np.nonzero(energy > energy.max() * 10 ** (-floor_db / 10))[0]
    if not len(loud):
        return audio
    first = max(0, int(loud[0]) * hop - round(margin * rate))
    return audio[first : (int(loud[-1]) + 1) * hop + round(margin * rate)]

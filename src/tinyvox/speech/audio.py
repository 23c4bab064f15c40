"""Audio as arrays of samples: read from files, cut, and put together."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tinyvox.errors import DataError
from tinyvox.runtime import HIGHEST_RATE, LOWEST_RATE
from tinyvox.speech.manifest import Utterance
from tinyvox.speech.wav import find_samples
from tinyvox.storage import open_input

Audio = NDArray[np.float32]
"""One channel of samples, float32 [samples], full scale at -1 and 1."""

LOUDEST = 16.0
"""Floating-point samples beyond it, 24 dB above full scale, are on another scale by mistake."""
ROUNDING = 0.05
"""Seconds by which a manifest may be wrong about the end of a file."""
BLOCK = 1 << 20
"""Frames that are read at a time where nobody knows how many there are."""


def read_audio(path: Path, rate: int, offset: float = 0.0, duration: float = 0.0) -> Audio:
    """Samples of a file, or of a stretch of it, at `rate` Hz, as `decode_audio` gives them.

    Raises DataError, with the path, where the file holds no audio that can be used.
    """
    with open_input(path, DataError) as file:
        return decode_audio(file, str(path), rate, offset, duration)


def read_utterance(utterance: Utterance, rate: int) -> Audio:
    """Samples of an utterance at `rate` Hz. Raises DataError as `read_audio` does."""
    stretch = utterance.offset, utterance.duration
    if utterance.packed is None:
        return read_audio(utterance.path, rate, *stretch)
    return decode_audio(io.BytesIO(utterance.packed.read()), str(utterance.path), rate, *stretch)


def decode_audio(
    file: IO[bytes], name: str, rate: int, offset: float = 0.0, duration: float = 0.0
) -> Audio:
    """Samples at `rate` Hz of an open file, which may be a pipe: WAV, or what libsndfile reads.

    Channels are averaged, other sample rates resampled. Floating-point samples are taken as they
    are, also beyond -1 and 1. `offset` and `duration`, in seconds, are those of a stretch; without
    a duration (0) it goes to the end. Raises DataError, with the name, where there is no audio, it
    is cut short, ends before the stretch, or holds samples that are no numbers or beyond LOUDEST.
    """
    try:
        seekable = file if file.seekable() else io.BytesIO(file.read())
        recording = find_samples(seekable, name) or _Foreign(seekable, name)
        _check_rate(name, recording.rate)
        first, count = _stretch(name, recording, offset, duration)
        frames = recording.read(first, count)
    # libsndfile's wrapper raises TypeError for names that end as headerless formats do.
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        if isinstance(error, TypeError):
            reason = "it has no header, so nobody knows its sample rate; convert it to WAV"
        raise DataError(f"{name}: no audio that can be read: {reason}") from error
    _check_values(name, frames)
    mono: Audio = frames.mean(axis=1) if frames.shape[1] > 1 else frames[:, 0]
    if recording.rate != rate:
        mono = soxr.resample(mono, recording.rate, rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


class _Recording(Protocol):
    """A file whose frames can be read."""

    @property
    def rate(self) -> int: ...
    @property
    def frames(self) -> int: ...
    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """Frames, float32 [frames, channels], from `first` on."""


class _Foreign:
    """A file that libsndfile reads."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        file.seek(0)
        self.name, self.file = name, _SoundFile(file)
        self.rate, self.frames = int(self.file.samplerate), int(self.file.frames)

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """Frames, float32 [frames, channels], from `first` on."""
        if not self.file.seekable():
            return self._read_all()[first : first + count]
        self.file.seek(first)
        found: NDArray[np.float32] = self.file.read(count, dtype="float32", always_2d=True)
        # What MP3 files say of their length may be an estimate.
        if len(found) < count and self.file.format != "MP3":
            raise DataError(
                f"{self.name}: is cut short: its header promises {count} frames of samples, "
                f"there are {len(found)}"
            )
        return found

    def _read_all(self) -> NDArray[np.float32]:
        blocks = [self.file.read(BLOCK, dtype="float32", always_2d=True)]
        while len(blocks[-1]) == BLOCK:
            blocks.append(self.file.read(BLOCK, dtype="float32", always_2d=True))
        return np.concatenate(blocks)


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """libsndfile cannot seek in a file (FLAC out of a pipe) that does not say how long it is."""

    def seekable(self) -> bool:
        """Whether frames can be sought."""
        return bool(super().seekable() and self.frames < 1 << 62)


def _check_rate(name: str, rate: int) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(
            f"{name}: {rate} samples a second, expected {LOWEST_RATE} to {HIGHEST_RATE}"
        )


def _stretch(name: str, recording: _Recording, offset: float, duration: float) -> tuple[int, int]:
    """The first frame of a stretch, and how many it has."""
    length = recording.frames / recording.rate
    end = offset + duration if duration else length
    if offset and (offset >= length or end > length + ROUNDING):
        raise DataError(
            f"{name}: ends at {length:.3f} s, expected the stretch from {offset:.3f} to "
            f"{max(end, offset):.3f} s of the manifest in it"
        )
    if not offset and end > length - ROUNDING:
        return 0, recording.frames
    first = round(offset * recording.rate)
    return first, min(round(end * recording.rate), recording.frames) - first


def _check_values(name: str, frames: NDArray[np.float32]) -> None:
    beyond = ~(np.abs(frames) <= LOUDEST)
    if not beyond.any():
        return
    where = int(beyond.any(axis=1).argmax())
    value = float(frames[where][beyond[where]][0])
    if not math.isfinite(value):
        raise DataError(f"{name}: sample {where} is NaN or infinite")
    raise DataError(
        f"{name}: sample {where} is {value:.6g}, expected full scale at 1; divide by the full "
        "scale of the integers that the samples were (32768 for 16 bits)"
    )

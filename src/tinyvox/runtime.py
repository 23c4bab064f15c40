"""Features, sessions and streams over the native core. Needs numpy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyvox import _native
from tinyvox.decode import BeamSearch, Transcript, number_of_texts
from tinyvox.errors import FileError
from tinyvox.language_model import LanguageModel

Samples = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Samples a second that audio may have."""


class Stream:
    """One utterance while it is spoken: feed audio as it comes, read the text so far.

    The text does not depend on how the audio was cut into pieces. One thread at a time uses a
    stream: a call while another thread is inside one raises RuntimeError and changes nothing.
    """

    def __init__(self, native: _native.SpeechStream, search: BeamSearch | None = None) -> None:
        self._native, self._search = native, search

    @property
    def text(self) -> str:
        """What was recognized so far."""
        return self._native.text

    def feed(self, samples: ArrayLike) -> None:
        """Take float32 samples in [-1, 1), or 16-bit integers, at the session's sample rate.

        Raises ValueError on samples of another shape, type or value, and after `finish`.
        """
        self._native.feed(as_samples(samples))

    def finish(self) -> str:
        """The utterance is over: its whole text."""
        return self._native.finish()

    def copy(self) -> Stream:
        """A second stream that has heard what this one has, and goes on by itself.

        `stream.copy().finish()` is the text if the utterance ends here; the stream is as it was.
        """
        return Stream(self._native.copy(), self._search)

    def best(self, count: int = 1) -> list[Transcript]:
        """The `count` likeliest texts so far, with times and confidence, the best first.

        Until `finish` is called the last word may not be complete. Raises ValueError where the
        stream decodes greedily, and for a `count` below zero.
        """
        if self._search is None:
            raise ValueError("the stream decodes greedily; open it with a beam search")
        return self._search.transcripts(self._native.best(number_of_texts(count)))

    def reset(self) -> None:
        """Back to the beginning, for the next utterance; takes no new memory."""
        self._native.reset()


class FeatureStream:
    """One utterance as features: push frames as they come, get outputs as early as they can be had.

    The outputs, end to end, do not depend on how the features were cut into pieces. One thread at
    a time uses a stream: a call while another thread is inside one raises RuntimeError and changes
    nothing.
    """

    def __init__(self, native: _native.FeatureStream) -> None:
        self._native = native

    def push(self, features: ArrayLike) -> NDArray[np.float32]:
        """Outputs [frames', output_size] that features [frames, input_size] have made ready.

        Token ids as `Session.run` takes them. Raises ValueError on features of another shape or
        value, on ids out of range, and after `finish`.
        """
        return self._native.push(as_frames(features))

    def finish(self) -> NDArray[np.float32]:
        """The utterance is over: the outputs that waited for more.

        Raises ValueError where it is over already.
        """
        return self._native.finish()

    def reset(self) -> None:
        """Back to the beginning, for the next utterance; takes no new memory."""
        self._native.reset()


class Session:
    """An open .tvx file, which any number of streams share. One thread uses one stream."""

    def __init__(self, native: _native.Session) -> None:
        self._session: _native.Session | None = native

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; its memory is freed when the last stream is. Streams still work."""
        self._session = None

    @property
    def _native(self) -> _native.Session:
        if self._session is None:
            raise ValueError("the session is closed; open the file again")
        return self._session

    @property
    def input_size(self) -> int:
        """Values in a frame of the model's input."""
        return self._native.input_size

    @property
    def ids(self) -> int | None:
        """How many token ids there are, where the model takes ids; None for features."""
        return self._native.ids or None

    @property
    def output_size(self) -> int:
        """Values in a frame of the model's output."""
        return self._native.output_size

    @property
    def has_speech(self) -> bool:
        """Whether the file has a speech card, and so takes audio and gives text."""
        return self._native.has_speech

    @property
    def sample_rate(self) -> int:
        """Samples a second. Raises ValueError where the file has no speech card."""
        return self._native.sample_rate

    @property
    def tokens(self) -> tuple[str, ...]:
        """The texts that outputs stand for, but for the blank. Raises ValueError where the file has
        no speech card."""
        tokens = self._native.tokens
        return (*tokens[: self._native.blank], *tokens[self._native.blank + 1 :])

    @property
    def isa(self) -> str:
        """The instruction set in use; the environment variable TINYVOX_ISA forces one."""
        return self._native.isa

    @property
    def resident_bytes(self) -> int:
        """Memory of the unpacked weights and of one stream."""
        return self._native.resident_bytes

    def features(self, samples: ArrayLike) -> NDArray[np.float32]:
        """What the model takes, [frames, input_size], for the samples of a whole utterance."""
        return self._native.features(as_samples(samples))

    def run(self, features: ArrayLike, chunk: int = 16) -> NDArray[np.float32]:
        """Outputs [frames', output_size] for features [frames, input_size] of an utterance.

        A model of token ids takes these: whole numbers, [frames] or [frames, 1]. `chunk` frames are
        given to the stream at a time; the result does not depend on it. Raises ValueError on
        features of another shape or value, and on ids out of range.
        """
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, expected 1 frame or more")
        frames = as_frames(features)
        return self._native.run(frames, min(chunk, max(1, len(frames))))

    def feature_stream(self) -> FeatureStream:
        """A new utterance as features; takes no speech card."""
        return FeatureStream(_native.FeatureStream(self._native))

    def search(self, lm: LanguageModel | Path | str | None = None, **settings: Any) -> BeamSearch:
        """A beam search over this model's outputs, for any number of streams.

        `settings` are those of `BeamSearch`: beam, alpha, beta, words, hot_words and others. Raises
        ValueError where the file has no speech card, and as `BeamSearch` does.
        """
        native = self._native
        return BeamSearch(
            native.tokens, native.blank, lm, frame_seconds=native.frame_seconds, **settings
        )

    def stream(self, search: BeamSearch | None = None) -> Stream:
        """A new utterance, decoded greedily or by a beam search. Raises ValueError where the file
        has no speech card, or the search is for other tokens."""
        native = None if search is None else search.native
        return Stream(_native.SpeechStream(self._native, native), search)

    def transcribe(
        self,
        samples: ArrayLike,
        sample_rate: int | None = None,
        search: BeamSearch | None = None,
    ) -> str:
        """The text of a whole utterance; samples as `Stream.feed` takes them.

        Samples of another `sample_rate` than the session's are resampled; without it they are
        taken to be at the session's. Raises ValueError for a rate that is no whole number from
        1,000 to 1,000,000.
        """
        return self._heard(samples, sample_rate, search).text

    def recognize(
        self,
        samples: ArrayLike,
        sample_rate: int | None = None,
        search: BeamSearch | None = None,
        count: int = 1,
    ) -> list[Transcript]:
        """The `count` likeliest texts of a whole utterance, with times and confidence.

        As `transcribe`; without a `search`, by one that knows no words.
        """
        return self._heard(samples, sample_rate, search or self.search()).best(count)

    def _heard(
        self, samples: ArrayLike, sample_rate: int | None, search: BeamSearch | None
    ) -> Stream:
        stream = self.stream(search)
        if sample_rate is not None and sample_rate != self.sample_rate:
            samples = resample(as_samples(samples), sample_rate, self.sample_rate)
        stream.feed(samples)
        stream.finish()
        return stream


def open(path: Path | str, threads: int = 1, max_memory: int | None = None) -> Session:
    """Open a .tvx file. Raises FileError where it is missing, damaged, or cannot run here.

    A file that needs more than `max_memory` bytes, for the model and one stream, is refused before
    the memory is taken. Without it the limit is 40 MiB and 128 bytes for each byte of the file.

    `threads`, 1 to 64 or ValueError, share the work of large matrices. They are the session's: one
    stream at a time has their help, others work alone meanwhile. They sleep when idle. Results do
    not depend on them. Where the system has no room for all, there are fewer.
    """
    if max_memory is not None and not 1 <= max_memory < 2**64:
        raise ValueError(f"max_memory is {max_memory}, expected 1 to 2^64 - 1 bytes, or None")
    try:
        return Session(_native.Session(path, threads, max_memory or 0))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except (_native.FormatError, RuntimeError, MemoryError) as error:
        said = str(error) or "too large for the memory"
        if said.startswith("not a tinyvox file") and Path(path).suffix.lower() != ".tvx":
            said += "; make one of a model: tinyvox compress MODEL -o small.tvx --ratio 20"
        raise FileError(f"{path}: {said}") from error


def as_frames(features: ArrayLike) -> NDArray[np.float32]:
    """Contiguous float32 frames. Raises ValueError naming what was found."""
    given = np.asarray(features)
    if given.ndim == 1 and given.dtype.kind in "iu":  # token ids
        given = given[:, None]
    frames: NDArray[np.float32] = np.ascontiguousarray(given, dtype=np.float32)
    if frames.ndim != 2:
        raise ValueError(f"features of shape {frames.shape}, expected [frames, size]")
    if not np.isfinite(frames).all():
        raise ValueError("features hold NaN or infinity")
    return frames


def as_samples(samples: ArrayLike) -> Samples:
    """Contiguous float32 samples of one channel. Raises ValueError naming what was found."""
    array = np.asarray(samples)
    if array.dtype == np.int16:
        array = array.astype(np.float32) / np.float32(32768.0)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise ValueError(
            f"audio is {array.dtype} of shape {array.shape}, "
            f"expected one channel of float32 or int16 samples"
        )
    result: Samples = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(result).all():
        raise ValueError("audio holds NaN or infinity")
    return result


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """A whole utterance at another sample rate, band-limited to what both rates can hold.

    The spectrum is cut off, or continued with zeros, which is the ideal filter; silence around the
    samples keeps their ends apart. Raises ValueError for rates that are no whole numbers from 1,000
    to 1,000,000.
    """
    if not (_is_rate(rate) and _is_rate(wanted)):
        raise ValueError(
            f"cannot resample from {rate} to {wanted} samples a second, expected whole numbers "
            f"from {LOWEST_RATE:,} to {HIGHEST_RATE:,}"
        )
    rate, wanted = int(rate), int(wanted)
    divisor = math.gcd(rate, wanted)
    step, new_step = rate // divisor, wanted // divisor
    blocks = -(-(len(samples) + rate // 10) // step)
    spectrum = np.fft.rfft(samples, blocks * step)
    count = blocks * new_step
    audio = np.fft.irfft(spectrum[: count // 2 + 1], count) * (new_step / step)
    length = -(-len(samples) * wanted // rate)
    result: Samples = audio[:length].astype(np.float32)
    return result


def _is_rate(rate: float) -> bool:
    return LOWEST_RATE <= rate <= HIGHEST_RATE and int(rate) == rate


def extract_features(settings: Mapping[str, Any], samples: Samples) -> NDArray[np.float32]:
    """Features [frames, size] of an utterance, float32 samples in [-1, 1)."""
    return _native.features(_native.FeatureConfig(**settings), samples)

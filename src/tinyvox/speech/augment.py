"""Augmentation: an endless stream of random variants of the utterances in some manifests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tinyvox.errors import DataError
from tinyvox.speech.audio import Audio, join_takes, read_audio, trim_silence
from tinyvox.speech.manifest import Utterance, read_manifest


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"expected the smaller number first, [{ends[1]}, {ends[0]}]")
    return ends


Number = TypeVar("Number")
Range = Annotated[tuple[Number, Number], AfterValidator(_rising)]
"""Two numbers, the smaller one first."""
Counts = Range[Annotated[int, Field(ge=1, le=1000)]]
Seconds = Range[Annotated[float, Field(ge=0, le=60)]]
Decibels = Range[Annotated[float, Field(ge=-120, le=120)]]
Speeds = Range[Annotated[float, Field(ge=0.1, le=10)]]


class Drawn(NamedTuple):
    """An augmented utterance, its transcript, and the files that it was made of."""

    audio: Audio
    text: str
    paths: tuple[Path, ...]


class Join(BaseModel):
    """How single takes are joined to longer utterances: `count` takes (a range), with a silence
    between two of them (a range, in seconds)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    count: Counts = (2, 7)
    silence: Seconds = (0.02, 0.3)
    one_speaker: bool = True
    """Whether all takes of an utterance are by the same speaker."""
    trim: bool = False
    """Whether quiet beginnings and ends of the takes are cut off first."""


class Source(BaseModel):
    """A manifest to train on, and the share of the drawn utterances that come from it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    manifest: Path
    share: Annotated[float, Field(gt=0)] = 1.0
    """Relative to the shares of the other sources."""
    join: Join | None = None
    join_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The share of the utterances that are joined from takes; the others are single takes."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the speakers who are held back for validation."""


class Augment(BaseModel):
    """Random changes of the audio. A range means a uniform distribution over it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    speed: Speeds = (0.88, 1.14)
    """Playback speed; the pitch changes with it."""
    gain_db: Decibels = (-12.0, 6.0)
    noise_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the utterances to which noise is added."""
    noise_snr_db: Decibels = (8.0, 35.0)
    """Signal-to-noise ratio in decibels."""
    pad: Seconds = (0.0, 0.3)
    """Seconds of near silence before and after the utterance."""
    pad_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of the utterances that are padded. The others teach the model to finish a text at
    the last frame."""


class Corpus:
    """Utterances in memory, as 16-bit samples, from which augmented ones are drawn at random.

    `kept` are the utterances of each source that are drawn, `held` those that are held back. Raises
    DataError where a transcript has a character outside `alphabet`, or where a file cannot be read.
    """

    def __init__(
        self, sources: Sequence[Source], augment: Augment, alphabet: set[str], rate: int
    ) -> None:
        self.sources, self.augment, self.rate = sources, augment, rate
        self.kept: list[list[Utterance]] = []
        self.held: list[Utterance] = []
        for source in sources:
            kept, held = _split(read_manifest(source.manifest), source.holdout)
            _check_alphabet(source.manifest, kept + held, alphabet)
            self.kept.append(kept)
            self.held += held
        self._speakers = [_by_speaker(utterances) for utterances in self.kept]
        self._cache: dict[Path, NDArray[np.int16]] = {}
        self._noise = NoiseBank(rate)

    def load(self) -> Iterator[Utterance]:
        """Read every file into memory, and yield the utterance when it has been read."""
        for utterances in self.kept:
            for utterance in utterances:
                self.audio(utterance)
                yield utterance

    def leave_out(self, is_unusable: Callable[[Utterance], bool]) -> None:
        """Draw no more of the utterances for which this is so."""
        self.kept = [[u for u in utterances if not is_unusable(u)] for utterances in self.kept]
        self._speakers = [_by_speaker(utterances) for utterances in self.kept]

    def audio(self, utterance: Utterance) -> Audio:
        """Samples of an utterance. The file is read once, then kept in memory."""
        if utterance.path not in self._cache:
            audio = read_audio(utterance.path, self.rate)
            clipped = np.clip(audio * 32768.0, -32768, 32767)
            self._cache[utterance.path] = clipped.astype(np.int16)
        return self._cache[utterance.path].astype(np.float32) / np.float32(32768.0)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """One augmented utterance; all random numbers come from `rng`."""
        shares = np.array([source.share for source in self.sources])
        which = int(rng.choice(len(shares), p=shares / shares.sum()))
        audio, text, paths = self._draw_from(which, rng)
        return Drawn(self._augmented(audio, rng), text, paths)

    def _draw_from(self, which: int, rng: np.random.Generator) -> Drawn:
        source, utterances = self.sources[which], self.kept[which]
        first = utterances[int(rng.integers(len(utterances)))]
        if source.join is None or rng.random() > source.join_share:
            return Drawn(self.audio(first), first.text, (first.path,))
        pool = self._speakers[which][first.speaker] if source.join.one_speaker else utterances
        count = int(rng.integers(source.join.count[0], source.join.count[1] + 1))
        takes = [first, *(pool[int(rng.integers(len(pool)))] for _ in range(count - 1))]
        audios = [self.audio(take) for take in takes]
        if source.join.trim:
            audios = [trim_silence(audio, self.rate) for audio in audios]
        silences = rng.uniform(*source.join.silence, count - 1)
        joined = join_takes(audios, list(silences), self.rate)
        text = " ".join(take.text for take in takes)
        return Drawn(joined, text, tuple(take.path for take in takes))

    def _augmented(self, audio: Audio, rng: np.random.Generator) -> Audio:
        speed = rng.uniform(*self.augment.speed)
        audio = soxr.resample(audio, self.rate * speed, self.rate, quality="QQ")
        if rng.random() < self.augment.pad_share:
            pads = [round(s * self.rate) for s in rng.uniform(*self.augment.pad, 2)]
            audio = np.pad(audio, pads)
        power = float(np.mean(audio**2)) + 1e-10
        if rng.random() < self.augment.noise_share:
            snr = 10 ** (rng.uniform(*self.augment.noise_snr_db) / 10)
            audio = audio + self._noise.cut(len(audio), rng) * np.float32(np.sqrt(power / snr))
        else:
            audio = audio + rng.standard_normal(len(audio), np.float32) * np.float32(3e-5)
        # Values above 1 stay: clipping would distort a loud recording.
        gain = 10 ** (rng.uniform(*self.augment.gain_db) / 20)
        return (audio * np.float32(gain)).astype(np.float32)


class NoiseBank:
    """Noise of unit power, white to brown, from which random pieces are cut."""

    SECONDS, KINDS = 16, 8

    def __init__(self, rate: int, seed: int = 0) -> None:
        size = 1 << (self.SECONDS * rate).bit_length()
        rng = np.random.default_rng(seed)
        self.stretches = [
            self._colored(size, slope, rng) for slope in np.linspace(0, 1, self.KINDS)
        ]

    def cut(self, size: int, rng: np.random.Generator) -> Audio:
        """So many samples of one kind of noise, from a random place."""
        stretch = self.stretches[int(rng.integers(len(self.stretches)))]
        start = int(rng.integers(len(stretch)))
        return np.take(stretch, np.arange(start, start + size), mode="wrap")

    @staticmethod
    def _colored(size: int, slope: float, rng: np.random.Generator) -> Audio:
        spectrum = np.fft.rfft(rng.standard_normal(size))
        noise = np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 100.0) ** -slope, size)
        return (noise / np.std(noise)).astype(np.float32)


def _by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        speakers[utterance.speaker].append(utterance)
    return speakers


def _split(utterances: list[Utterance], holdout: float) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to draw and utterances to hold back: those of every n-th speaker."""
    speakers = sorted({utterance.speaker for utterance in utterances})
    count = round(len(speakers) * holdout)
    held = set(speakers[:: len(speakers) // count][:count]) if count else set()
    kept = [utterance for utterance in utterances if utterance.speaker not in held]
    return kept, [utterance for utterance in utterances if utterance.speaker in held]


def _check_alphabet(path: Path, utterances: Iterable[Utterance], alphabet: set[str]) -> None:
    for utterance in utterances:
        strange = set(utterance.text) - alphabet
        if strange:
            raise DataError(
                f"{path}: {utterance.path.name}: transcript has {sorted(strange)[0]!r}, which is "
                f"no token of the card; normalize the text, or add the token"
            )

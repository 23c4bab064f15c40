"""Manifests, audio, and the endless stream of augmented utterances that training draws from."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tinyvox.errors import DataError

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest; `text` is empty where there is no transcript."""

    path: Path
    duration: float
    text: str
    speaker: str


def read_manifest(path: Path) -> list[Utterance]:
    """JSON lines, or a DeepSpeech CSV. Raises DataError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    read = _read_csv if path.suffix == ".csv" else _read_jsonl
    utterances = list(read(path, text.splitlines()))
    if not utterances:
        raise DataError(f"{path}: holds no utterance")
    return utterances


def spread(utterances: Sequence[Utterance], count: int) -> Sequence[Utterance]:
    """So many of them at most, from all over the list."""
    return utterances[:: max(1, -(-len(utterances) // count))]


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """JSON lines; audio paths become relative to the manifest, out of its folder too."""
    rows = [
        {
            "audio_filepath": Path(os.path.relpath(u.path, path.parent)).as_posix(),
            "duration": round(u.duration, 3),
            "text": u.text,
            "speaker": u.speaker,
        }
        for u in utterances
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _read_jsonl(path: Path, lines: Sequence[str]) -> Iterator[Utterance]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            audio = path.parent / row["audio_filepath"]
            duration, text = float(row.get("duration", 0)), str(row.get("text", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: expected a JSON object with audio_filepath, duration and text; "
                f"{type(error).__name__}: {error}"
            ) from error
        yield Utterance(audio, duration, text, str(row.get("speaker", "")))


def _read_csv(path: Path, lines: Sequence[str]) -> Iterator[Utterance]:
    rows = csv.DictReader(lines)
    expected = {"wav_filename", "transcript"}
    if not expected <= set(rows.fieldnames or ()):
        raise DataError(f"{path}:1: columns are {rows.fieldnames}, expected {sorted(expected)}")
    for row in rows:
        yield Utterance(path.parent / row["wav_filename"], 0.0, row["transcript"] or "", "")


def read_audio(path: Path, rate: int) -> Audio:
    """Mono float32 samples in [-1, 1) at `rate`, resampled where the file differs."""
    try:
        audio, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: no audio that can be read: {error}") from error
    mono: Audio = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    if file_rate != rate:
        mono = soxr.resample(mono, file_rate, rate)
    return np.ascontiguousarray(mono, dtype=np.float32)


class Join(BaseModel):
    """Isolated takes become strings: how many, and the silence between two (seconds)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: tuple[int, int] = (2, 7)
    silence: tuple[float, float] = (0.02, 0.3)
    one_speaker: bool = True
    trim: bool = False
    """Cut quiet beginnings and ends of the takes first."""


class Source(BaseModel):
    """A manifest to train on, and how large a share of the utterances drawn come from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    manifest: Path
    share: Annotated[float, Field(gt=0)] = 1.0
    join: Join | None = None
    join_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The share of the source's draws that are joined; the others are single takes."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of its speakers kept back for validation."""


class Augment(BaseModel):
    """Random changes of the audio; ranges are drawn from uniformly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: tuple[float, float] = (0.88, 1.14)
    gain_db: tuple[float, float] = (-12.0, 6.0)
    noise_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    noise_snr_db: tuple[float, float] = (8.0, 35.0)
    pad: tuple[float, float] = (0.0, 0.3)
    """Seconds of near silence before and after."""
    pad_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of the utterances that get it; the others teach to finish at the very end."""


def join_takes(takes: Sequence[Audio], silences: Sequence[float], rate: int) -> Audio:
    """Takes after each other with these silences (seconds) between them, faint noise in place."""
    pieces = [takes[0]]
    for take, silence in zip(takes[1:], silences, strict=True):
        floor = np.float32(min(np.abs(take[:160]).mean(), np.abs(take[-160:]).mean()))
        noise = np.random.default_rng(len(take)).standard_normal(round(silence * rate))
        pieces += [(noise * floor).astype(np.float32), take]
    return np.concatenate(pieces)


def trim_silence(audio: Audio, rate: int, floor_db: float = 32.0, margin: float = 0.06) -> Audio:
    """Without beginning and end that lie `floor_db` below the loudest 10 ms; `margin` s is kept."""
    hop = rate // 100
    frames = len(audio) // hop
    if frames < 3:
        return audio
    energy = (audio[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1)
    loud = np.nonzero(energy > energy.max() * 10 ** (-floor_db / 10))[0]
    first = max(0, int(loud[0]) * hop - round(margin * rate))
    return audio[first : (int(loud[-1]) + 1) * hop + round(margin * rate)]


class Corpus:
    """Utterances in memory as 16-bit samples, drawn at random, joined and augmented.

    Raises DataError where a transcript has a character outside `alphabet`, or a file cannot be
    read.
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

    def load(self) -> Iterator[Path]:
        """Read every file into memory; yields each path when it is done (for a progress bar)."""
        for utterances in self.kept:
            for utterance in utterances:
                self.audio(utterance)
                yield utterance.path

    def audio(self, utterance: Utterance) -> Audio:
        """Samples of an utterance, from memory after the first time."""
        if utterance.path not in self._cache:
            audio = read_audio(utterance.path, self.rate)
            clipped = np.clip(audio * 32768.0, -32768, 32767)
            self._cache[utterance.path] = clipped.astype(np.int16)
        return self._cache[utterance.path].astype(np.float32) / np.float32(32768.0)

    def draw(self, rng: np.random.Generator) -> tuple[Audio, str]:
        """One augmented utterance and its transcript."""
        shares = np.array([source.share for source in self.sources])
        which = int(rng.choice(len(shares), p=shares / shares.sum()))
        audio, text = self._draw_from(which, rng)
        return self._augmented(audio, rng), text

    def _draw_from(self, which: int, rng: np.random.Generator) -> tuple[Audio, str]:
        source, utterances = self.sources[which], self.kept[which]
        first = utterances[int(rng.integers(len(utterances)))]
        if source.join is None or rng.random() > source.join_share:
            return self.audio(first), first.text
        pool = self._speakers[which][first.speaker] if source.join.one_speaker else utterances
        count = int(rng.integers(source.join.count[0], source.join.count[1] + 1))
        takes = [first, *(pool[int(rng.integers(len(pool)))] for _ in range(count - 1))]
        audios = [self.audio(take) for take in takes]
        if source.join.trim:
            audios = [trim_silence(audio, self.rate) for audio in audios]
        silences = rng.uniform(*source.join.silence, count - 1)
        joined = join_takes(audios, list(silences), self.rate)
        return joined, " ".join(take.text for take in takes)

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
        # Not clipped: a loud recording is no distorted one.
        gain = 10 ** (rng.uniform(*self.augment.gain_db) / 20)
        return (audio * np.float32(gain)).astype(np.float32)


class NoiseBank:
    """Stretches of unit-power noise, white to brown, from which random pieces are cut."""

    SECONDS, KINDS = 16, 8

    def __init__(self, rate: int, seed: int = 0) -> None:
        size = 1 << (self.SECONDS * rate).bit_length()
        rng = np.random.default_rng(seed)
        self.stretches = [
            self._colored(size, slope, rng) for slope in np.linspace(0, 1, self.KINDS)
        ]

    def cut(self, size: int, rng: np.random.Generator) -> Audio:
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
    """Kept and held-back utterances; every so many-th speaker is held back."""
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

"""What happens to speech on its way: silence, noise, levels, bands, sample rates, codecs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from lib.testsets import RATE
from tinyvox.speech import (
    Audio,
    Utterance,
    clip,
    gate,
    limit_band,
    read_audio,
    read_manifest,
    write_manifest,
)

Change = Callable[[Audio, np.random.Generator], Audio]
"""Samples at 16 kHz to samples at the rate of the condition."""
GATE_DB, MUTED = 40.0, 0.3
"""What a noise gate takes for silence, in decibels below the loudest 10 ms; seconds of zeros on
both sides."""
TELEPHONE, BAND = 8000, (300, 3400)
"""Samples a second of a telephone line, and the frequencies that it lets through."""


@dataclass(frozen=True)
class Condition:
    """A change, and the kind of file that its samples are written to."""

    title: str
    change: Change
    rate: int = RATE
    suffix: str = "wav"
    written: dict[str, Any] = field(default_factory=lambda: {"subtype": "FLOAT"})
    """What soundfile is told: floats keep what is louder than full scale."""
    bounded: bool = True
    """Whether at most twice the errors of clean speech are asked for."""


def _unchanged(audio: Audio, _: np.random.Generator) -> Audio:
    return audio


def _digital_silence(audio: Audio, _: np.random.Generator) -> Audio:
    return np.pad(gate(audio, RATE, GATE_DB), round(MUTED * RATE))


def _noisy(snr_db: float) -> Change:
    def change(audio: Audio, rng: np.random.Generator) -> Audio:
        power = float(np.mean(audio**2)) / 10 ** (snr_db / 10)
        return audio + rng.standard_normal(len(audio), np.float32) * np.float32(np.sqrt(power))

    return change


def _louder(gain_db: float) -> Change:
    return lambda audio, _: audio * np.float32(10 ** (gain_db / 20))


def _clipped(audio: Audio, _: np.random.Generator) -> Audio:
    return clip(audio, 12)


def _telephone(audio: Audio, _: np.random.Generator) -> Audio:
    return limit_band(soxr.resample(audio, RATE, TELEPHONE), TELEPHONE, *BAND)


def _offset(audio: Audio, _: np.random.Generator) -> Audio:
    return audio + np.float32(0.05)


def _resampled(rate: int) -> Change:
    return lambda audio, _: np.asarray(soxr.resample(audio, RATE, rate), np.float32)


def _mp3(title: str, compression: float) -> Condition:
    written = {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": compression}
    return Condition(title, _unchanged, suffix="mp3", written=written)


CONDITIONS: dict[str, Condition] = {
    "clean": Condition("as it is", _unchanged),
    "digital_silence": Condition("digital silence", _digital_silence),
    "noise_20": Condition("white noise, 20 dB", _noisy(20)),
    "noise_10": Condition("white noise, 10 dB", _noisy(10)),
    "noise_0": Condition("white noise, 0 dB", _noisy(0), bounded=False),
    "quiet": Condition("level -20 dB", _louder(-20)),
    "loud": Condition("level +12 dB", _louder(12)),
    "clipped": Condition("clipped, 12 dB", _clipped),
    "telephone": Condition(
        "telephone, 300 to 3400 Hz, mu-law", _telephone, TELEPHONE, written={"subtype": "ULAW"}
    ),
    "offset": Condition("an offset of 0.05", _offset),
    "rate_44100": Condition("44.1 kHz", _resampled(44100), 44100),
    "rate_8000": Condition("8 kHz", _resampled(8000), 8000),
    "mp3_32": _mp3("MP3", 0.87),
    "mp3_16": _mp3("MP3", 0.95),
    "opus": Condition(
        "Opus", _unchanged, suffix="opus",
        written={"format": "OGG", "subtype": "OPUS", "compression_level": 0.99},
    ),
}  # fmt: skip


def changed(name: str, utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """The utterances under a condition, as files with a manifest in the folder; an existing
    manifest is taken as it is."""
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return read_manifest(manifest)
    folder.mkdir(parents=True, exist_ok=True)
    condition, rows = CONDITIONS[name], []
    for i, utterance in enumerate(utterances):
        audio = condition.change(read_audio(utterance.path, RATE), np.random.default_rng(i))
        path = folder / f"{i:03d}.{condition.suffix}"
        soundfile.write(path, audio, condition.rate, **condition.written)
        seconds = len(audio) / condition.rate
        rows.append(Utterance(path, seconds, utterance.text, utterance.speaker))
    write_manifest(manifest, rows)
    return rows


def kilobits(utterances: Sequence[Utterance]) -> float:
    """Kilobits that a second takes in these files."""
    size = sum(each.path.stat().st_size for each in utterances)
    return size * 8 / 1000 / sum(each.duration for each in utterances)

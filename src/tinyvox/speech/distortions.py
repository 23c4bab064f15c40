"""What microphones, lines and codecs do to speech."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import soundfile
import soxr

from tinyvox.speech.audio import Audio

Codec = Literal["mp3", "opus"]
"""Lossy codecs that soundfile writes."""
_WRITTEN: Mapping[Codec, Mapping[str, str]] = MappingProxyType(
    {
        "mp3": {"format": "MP3", "bitrate_mode": "CONSTANT"},
        "opus": {"format": "OGG", "subtype": "OPUS"},
    }
)


def limit_band(audio: Audio, rate: int, low_hz: float, high_hz: float) -> Audio:
    """Audio without what lies below and above these frequencies, as a line or a lower sample rate
    leaves it."""
    spectrum = np.fft.rfft(audio)
    hertz = np.linspace(0, rate / 2, len(spectrum))
    spectrum[(hertz < low_hz) | (hertz > high_hz)] = 0
    return np.fft.irfft(spectrum, len(audio)).astype(np.float32)


def clip(audio: Audio, above_db: float) -> Audio:
    """Audio cut off so many decibels below its largest sample."""
    limit = np.abs(audio).max(initial=0) * np.float32(10 ** (-above_db / 20))
    return np.clip(audio, -limit, limit)


def encode(audio: Audio, rate: int, codec: Codec, compression: float) -> Audio:
    """Audio after a codec. `compression` is 0 for the most bits and 1 for the fewest; samples
    beyond full scale are cut off. A codec may append some silence."""
    file = io.BytesIO()
    soundfile.write(
        file, np.clip(audio, -1, 1), rate, compression_level=compression, **_WRITTEN[codec]
    )
    file.seek(0)
    decoded, decoded_rate = soundfile.read(file, dtype="float32")
    if decoded_rate != rate:
        decoded = soxr.resample(decoded, decoded_rate, rate)
    result: Audio = np.ascontiguousarray(decoded, np.float32)
    return result

"""Synthetic speech: sounds that a vocal tract could make, in no language.

It stands in for audio where there is none: a source (pulses of the voice, noise of the breath)
through a filter (resonances that glide from one place to the next), in syllables with pauses, over
background noise, by speakers of all sizes through microphones of all kinds.

Source: Fant, "Acoustic theory of speech production", 1960 (source and filter); Klatt, "Software for
a cascade/parallel formant synthesizer", 1980 (ranges of formants and bandwidths).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]
Track = NDArray[np.float64]

HOP_S = 0.005
"""Seconds between the moments at which the sound is described."""
BANDWIDTHS = np.array([80.0, 110.0, 170.0, 250.0])
"""Bandwidths of the formants, Hz."""


@dataclass(frozen=True)
class _Speaker:
    """pitch, Hz; size of the vocal tract, 1 for a man; how fast sounds follow each other."""

    pitch: float
    tract: float
    pace: float


def synthesize_speech(seconds: float, rate: int, rng: np.random.Generator) -> Audio:
    """An utterance of about so many seconds, float32 within -1 to 1, at `rate` samples a second."""
    speaker = _Speaker(80 * 2 ** rng.uniform(0, 1.7), rng.uniform(0.85, 1.2), rng.uniform(0.7, 1.4))
    sounds = [_pause(rng)]
    while sum(len(sound) for sound in sounds) * HOP_S < seconds:
        sounds += _syllable(speaker, rng)
    sounds.append(_pause(rng))
    track = _smooth(np.concatenate(sounds))
    return _spoken(track, speaker, rate, rng)


_SILENT = -9.0
"""Loudness in nepers. A sound is a row every HOP_S: the loudness of the voice, that of the breath,
then the frequencies of four formants in Hz."""


def _syllable(speaker: _Speaker, rng: np.random.Generator) -> list[Track]:
    vowel = _formants(speaker, rng)
    sounds = [_consonant(vowel, speaker, rng) for _ in range(rng.integers(0, 3))]
    glide = _formants(speaker, rng) if rng.random() < 0.4 else vowel
    length, loudness = rng.uniform(0.07, 0.25) * speaker.pace, rng.normal(-0.5, 0.4)
    sounds.append(_sound(length, (loudness, -5.0), vowel, glide))
    if rng.random() < 0.5:
        sounds.append(_consonant(glide, speaker, rng))
    if rng.random() < 0.25:
        sounds.append(_pause(rng))
    return sounds


def _consonant(near: Track, speaker: _Speaker, rng: np.random.Generator) -> Track:
    """A stop, a fricative, or a nasal or liquid."""
    kind, pace = rng.random(), speaker.pace
    place = _noise_formants(rng)
    if kind < 0.35:
        voice = rng.choice([_SILENT, -4.0])
        closure = _sound(rng.uniform(0.03, 0.08) * pace, (voice, _SILENT), near, near)
        loudness = (_SILENT, rng.normal(-1.5, 0.6))
        burst = _sound(rng.uniform(0.01, 0.05), loudness, place, near)
        return np.concatenate([closure, burst])
    if kind < 0.7:
        loudness = (rng.choice([_SILENT, -2.5]), rng.normal(-2.0, 0.8))
        return _sound(rng.uniform(0.05, 0.16) * pace, loudness, place, place)
    murmur = np.array([270.0, 1100.0, 2200.0, 3300.0]) * rng.uniform(0.8, 1.25, 4) / speaker.tract
    loudness = (rng.normal(-1.8, 0.4), _SILENT)
    return _sound(rng.uniform(0.04, 0.12) * pace, loudness, murmur, murmur)


def _formants(speaker: _Speaker, rng: np.random.Generator) -> Track:
    first = rng.uniform(250, 850)
    second = rng.uniform(max(750, first + 250), 2500 - 0.8 * (first - 250))
    third = max(second + 300, rng.normal(2500, 250))
    return np.array([first, second, third, max(third + 500, 3500.0)]) / speaker.tract


def _noise_formants(rng: np.random.Generator) -> Track:
    """Where a constriction at the lips, the teeth or the palate makes its noise."""
    low = rng.uniform(1200, 6500)
    return np.array([low, low * rng.uniform(1.1, 1.4), low * rng.uniform(1.3, 1.8), 7000.0])


def _pause(rng: np.random.Generator) -> Track:
    formants = np.array([500.0, 1500.0, 2500.0, 3500.0])
    return _sound(rng.uniform(0.05, 0.35), (_SILENT, _SILENT), formants, formants)


def _sound(seconds: float, loudness: tuple[float, float], start: Track, end: Track) -> Track:
    count = max(2, round(seconds / HOP_S))
    along = np.linspace(0, 1, count)[:, None]
    return np.hstack([np.tile(loudness, (count, 1)), start + along * (end - start)])


def _smooth(track: Track) -> Track:
    """The track smoothed over 30 ms, about the time that articulators take to move."""
    window = np.hanning(9)[1:-1]
    window /= window.sum()
    padded = np.pad(track, ((3, 3), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window, mode="valid") for column in padded.T], axis=1)


def _spoken(track: Track, speaker: _Speaker, rate: int, rng: np.random.Generator) -> Audio:
    hop = round(HOP_S * rate)
    length = len(track) * hop
    source = _source(track, speaker, length, rate, rng)
    voiced = _filtered(source, _response(track[:, 2:], rate, hop), hop)
    voiced *= 10 ** rng.uniform(-1.5, -0.4) / max(float(np.quantile(np.abs(voiced), 0.99)), 1e-9)
    noise = _colored(length, rng) * 10 ** rng.uniform(-4.5, -2.0)
    return np.clip(_through_microphone(voiced + noise, rate, rng), -1, 1).astype(np.float32)


def _source(
    track: Track, speaker: _Speaker, length: int, rate: int, rng: np.random.Generator
) -> Track:
    """Pulses of the voice, their spectrum falling by 6 dB an octave as it leaves the mouth, and
    white noise of the breath."""
    moments, steps = np.linspace(0, len(track) - 1, length), np.arange(len(track))
    bends = np.arange(0, len(track) + 40, 40)  # where the melody turns, every 0.2 s
    melody = np.interp(moments, bends, rng.normal(0, 0.12, len(bends)))
    phase = np.cumsum(speaker.pitch * np.exp(melody) / rate)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    voice, breath = (np.exp(np.interp(moments, steps, loudness)) for loudness in track.T[:2])
    spoken = _tilted(pulses * voice * np.sqrt(rate / speaker.pitch))
    source: Track = spoken + 0.3 * breath * rng.normal(size=length)
    return source


def _tilted(values: Track) -> Track:
    """One pole at 100 Hz or so, as a convolution with its decaying response."""
    response = 0.96 ** np.arange(200)
    return np.convolve(values, response)[: len(values)] * (1 - 0.96)


def _response(formants: Track, rate: int, hop: int) -> Track:
    """Magnitudes at the frequencies of a transform of 4 hops, [moments, 2 hops + 1], with the peaks
    at 1, so that a resonance does not make a sound loud."""
    frequencies = np.arange(2 * hop + 1) * rate / (4 * hop)
    total = np.ones((len(formants), len(frequencies)))
    for center, width in zip(formants.T[:, :, None], BANDWIDTHS, strict=True):
        width = width + 0.03 * center
        apart = ((frequencies**2 - center**2) / center**2) ** 2
        total /= np.sqrt(apart + (frequencies * width / center**2) ** 2) + 0.05
    total /= total.max(axis=1, keepdims=True)
    return total


def _filtered(source: Track, response: Track, hop: int) -> Track:
    """Each stretch of four hops through its own filter, overlapped and added."""
    window = np.sqrt(0.5) * np.sin(np.pi * (np.arange(4 * hop) + 0.5) / (4 * hop))
    padded = np.pad(source, (2 * hop, 4 * hop))
    stretches = np.lib.stride_tricks.sliding_window_view(padded, 4 * hop)[::hop][: len(response)]
    spectra = np.fft.rfft(stretches * window) * response
    pieces = (np.fft.irfft(spectra) * window).reshape(len(response), 4, hop)
    result = np.zeros((len(response) + 3, hop))
    for quarter in (3, 2, 1, 0):  # the earlier stretches first
        result[quarter : quarter + len(response)] += pieces[:, quarter]
    filtered: Track = result.reshape(-1)[2 * hop : 2 * hop + len(source)]
    return filtered


def _colored(length: int, rng: np.random.Generator) -> Track:
    """Noise of deviation 1 whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.normal(size=length))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** -rng.uniform(0, 1.0)
    noise = np.fft.irfft(spectrum, length)
    noise /= max(float(noise.std()), 1e-12)
    return noise


def _through_microphone(audio: Track, rate: int, rng: np.random.Generator) -> Track:
    """A smooth random color, some decibels up and down."""
    spectrum = np.fft.rfft(audio)
    bends = rng.normal(0, 0.35, 8)
    gain = np.interp(np.linspace(0, 7, len(spectrum)), np.arange(8), bends)
    colored: Track = np.fft.irfft(spectrum * np.exp(gain), len(audio))
    return colored

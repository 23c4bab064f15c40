"""The inputs that models of others were trained on, from audio at 16 kHz, each by its authors'
formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
RATE = 16000


def frames_of(audio: Array, window: int, hop: int) -> Array:
    """Overlapping stretches of audio, [frames, window]."""
    count = max(0, (len(audio) - window) // hop + 1)
    if count == 0:
        return np.zeros((0, window), audio.dtype)
    return np.lib.stride_tricks.sliding_window_view(audio, window)[: (count - 1) * hop + 1 : hop]


def log_spectrogram(audio: Array) -> Array:
    """161 log powers of windows of 20 ms, every 10 ms, as Baidu's ba-dls-deepspeech has them."""
    window = np.hanning(320)
    power = np.abs(np.fft.rfft(frames_of(audio, 320, 160) * window)) ** 2
    scale = (window**2).sum() * RATE
    power[:, 1:-1] *= 2 / scale
    power[:, (0, -1)] /= scale
    found: Array = np.log(power + 1e-14).astype(np.float32)
    return found


def speech_features_mfcc(audio: Array) -> Array:
    """13 coefficients of windows of 25 ms, every 10 ms, as python_speech_features has them."""
    loud = audio * 32768
    emphasized = np.append(loud[0], loud[1:] - 0.97 * loud[:-1])
    power = np.abs(np.fft.rfft(frames_of(emphasized, 400, 160), 512)) ** 2 / 512
    energy = np.maximum(power.sum(1), np.finfo(float).eps)
    bands = np.log(np.maximum(power @ _filters().T, np.finfo(float).eps))
    n = np.arange(26)
    cosines = np.cos(np.pi / 26 * (n[:, None] + 0.5) * np.arange(13)) * np.sqrt(2 / 26)
    cosines[:, 0] = np.sqrt(1 / 26)
    found = bands @ cosines * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    found[:, 0] = np.log(energy)
    return np.asarray(found, np.float32)


def _filters() -> Array:
    """26 triangles, evenly spaced on the mel scale from 0 to 8000 Hz, [26, 257]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, 28) / 2595) - 1)
    bins = np.floor(513 * hertz / RATE)
    filters = np.zeros((26, 257))
    for j in range(26):
        left, middle, right = bins[j : j + 3].astype(int)
        filters[j, left:middle] = (np.arange(left, middle) - left) / (middle - left)
        filters[j, middle:right] = (right - np.arange(middle, right)) / (right - middle)
    return filters


def normalized(features: list[Array], like: list[Array]) -> list[Array]:
    """Features with the mean and the spread that other ones have taken away."""
    joined = np.concatenate(like)
    mean, deviation = joined.mean(0), joined.std(0)
    return [((each - mean) / (deviation + 1e-14)).astype(np.float32) for each in features]


def magnitudes(audio: Array) -> Array:
    """257 magnitudes of stretches of 512 samples, every 128, without a window, as DTLN has them."""
    found: Array = np.abs(np.fft.rfft(frames_of(audio, 512, 128))).astype(np.float32)
    return found


def chunks(audio: Array) -> Array:
    """512 new samples after the 64 before them, as silero's detector takes them."""
    padded = np.concatenate([np.zeros(64, np.float32), audio])
    return np.ascontiguousarray(frames_of(padded, 576, 512))

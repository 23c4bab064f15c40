"""The native feature extractor against Kaldi's and TensorFlow's."""

from __future__ import annotations

from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import pytest
from numpy.typing import NDArray

from tinyvox.runtime import extract_features

pytestmark = pytest.mark.runtime

RATE = 16000


def settings(kind: str, **changes: Any) -> dict[str, Any]:
    base = {
        "kind": kind, "sample_rate": RATE, "window_ms": 25.0, "hop_ms": 10.0, "bands": 40,
        "coefficients": 13, "low_hz": 20.0, "high_hz": 7600.0, "mean": (), "deviation": (),
    }  # fmt: skip
    return {**base, **changes}


DEEPSPEECH = {"window_ms": 32.0, "hop_ms": 20.0, "coefficients": 26}


@pytest.fixture
def speech() -> NDArray[np.float32]:
    """Three seconds of a rising, noisy hum: quiet and loud frames, harmonics, no digital zero."""
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 130 * k * time) / k for k in range(1, 20))
    noise = rng.standard_normal(len(time))
    return ((hum * 0.1 + noise * 0.02) * np.linspace(0.01, 0.9, len(time))).astype(np.float32)


def kaldi(computer: Any, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    computer.accept_waveform(RATE, (samples * 32768).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])


@pytest.mark.parametrize("bands", [23, 40, 80])
def test_log_mel_equals_kaldi(speech: NDArray[np.float32], bands: int) -> None:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bands
    options.mel_opts.high_freq = 7600
    expected = kaldi(knf.OnlineFbank(options), speech)
    found = extract_features(settings("log_mel", bands=bands), speech)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_mfcc_equals_kaldi(speech: NDArray[np.float32]) -> None:
    options = knf.MfccOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 40
    options.mel_opts.high_freq = 7600
    options.num_ceps = 13
    options.use_energy = False
    expected = kaldi(knf.OnlineMfcc(options), speech)
    np.testing.assert_allclose(extract_features(settings("mfcc"), speech), expected, atol=5e-3)


def tensorflow_mfcc(
    samples: NDArray[np.float32], window: int, hop: int, high: float
) -> NDArray[np.float64]:
    """AudioSpectrogram (squared magnitude) and Mfcc, written from TensorFlow's documentation."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(samples) - window + 1, hop)
    frames = np.stack([samples[i : i + window] * hann for i in starts])
    size = 1 << (window - 1).bit_length()
    magnitude = np.abs(np.fft.rfft(frames, size))
    hz = RATE / size

    def mel(frequency: float) -> float:
        return float(1127 * np.log1p(frequency / 700))

    low, bands = mel(20), 40
    step = (mel(high) - low) / (bands + 1)
    centers = [low + step * (i + 1) for i in range(bands + 1)]
    energies = np.zeros((len(frames), bands))
    for bin_ in range(int(1.5 + 20 / hz), int(high / hz) + 1):
        at = mel(bin_ * hz)
        channel = sum(center < at for center in centers[:bands]) - 1
        start = low if channel < 0 else centers[channel]
        weight = (centers[channel + 1] - at) / (centers[channel + 1] - start)
        if channel >= 0:
            energies[:, channel] += weight * magnitude[:, bin_]
        if channel + 1 < bands:
            energies[:, channel + 1] += (1 - weight) * magnitude[:, bin_]
    index = np.arange(bands)
    cosines = np.cos(np.pi / bands * np.arange(26)[:, None] * (index + 0.5))
    return np.log(np.maximum(energies, 1e-12)) @ (np.sqrt(2 / bands) * cosines).T


@pytest.mark.parametrize("high", [4000.0, 7600.0, 8000.0])
def test_deepspeech_mfcc_equals_tensorflow(speech: NDArray[np.float32], high: float) -> None:
    expected = tensorflow_mfcc(speech, 512, 320, high)
    found = extract_features(settings("deepspeech_mfcc", high_hz=high, **DEEPSPEECH), speech)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_normalization_is_subtract_then_divide(speech: NDArray[np.float32]) -> None:
    plain = extract_features(settings("mfcc"), speech)
    mean, deviation = plain.mean(axis=0), plain.std(axis=0)
    normalized = settings("mfcc", mean=tuple(mean.tolist()), deviation=tuple(deviation.tolist()))
    np.testing.assert_allclose(
        extract_features(normalized, speech), (plain - mean) / deviation, atol=1e-5
    )


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (511, 0), (512, 1), (831, 1), (832, 2)])
def test_only_whole_windows_make_frames(samples: int, frames: int) -> None:
    found = extract_features(
        settings("deepspeech_mfcc", **DEEPSPEECH), np.zeros(samples, np.float32)
    )
    assert found.shape == (frames, 26)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"high_hz": 9000.0}, "band limits"),
        ({"coefficients": 41}, "coefficients"),
        ({"window_ms": 0.0}, "window"),
        ({"hop_ms": float("nan")}, "hop"),
        ({"mean": (0.0,), "deviation": (1.0,)}, "one value a feature"),
        ({"kind": "plp"}, "plp"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_features({**settings("mfcc"), **changes}, np.zeros(800, np.float32))


KINDS = ["log_mel", "mfcc", "deepspeech_mfcc"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_noise_floor_makes_silence_look_like_faint_noise(kind: str) -> None:
    noise = np.random.default_rng(1).standard_normal(20 * RATE) * 10 ** (-60 / 20)
    heard = extract_features(settings(kind), noise.astype(np.float32)).mean(axis=0)
    silent = extract_features(settings(kind, noise_floor_db=-60.0), np.zeros(RATE, np.float32))
    np.testing.assert_array_equal(silent, np.repeat(silent[:1], len(silent), axis=0))
    without = extract_features(settings(kind), np.zeros(RATE, np.float32))[0]
    assert np.linalg.norm(silent[0] - heard) < 0.1 * np.linalg.norm(without - heard)
    if kind == "log_mel":
        # The mean of the logarithm lies below the logarithm of the mean: by Euler's constant, 0.58,
        # for the power of one bin, by less for a band of many bins.
        assert (silent[0] > heard).all()
        assert (silent[0] < heard + 0.6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_noise_floor_leaves_louder_speech_alone(kind: str, speech: NDArray[np.float32]) -> None:
    found = extract_features(settings(kind, noise_floor_db=-100.0), speech)
    np.testing.assert_array_equal(found, extract_features(settings(kind), speech))


def test_a_noise_floor_outside_its_range_is_refused() -> None:
    for level in (1.0, -141.0, float("nan")):
        with pytest.raises(ValueError, match="noise floor outside -140 to 0 dB"):
            extract_features(settings("log_mel", noise_floor_db=level), np.zeros(RATE, np.float32))

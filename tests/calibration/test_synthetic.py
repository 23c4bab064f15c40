"""Synthetic speech: what it sounds like, and what it shows of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_models import speech_model

from tinyvox.calibration import (
    NO_STATISTICS,
    Calibration,
    SyntheticAmount,
    synthesize_speech,
    synthetic_batches,
    synthetic_features,
)
from tinyvox.model import Features, Model, SpeechCard
from tinyvox.progress import Update


def with_card(model: Model, rate: int = 16000) -> Model:
    size = model.input_size
    features = Features(
        kind="log_mel", bands=size, sample_rate=rate, high_hz=rate / 2,
        mean=(0.0,) * size, deviation=(1.0,) * size,
    )  # fmt: skip
    card = SpeechCard(features=features, tokens=(*"abcdef", "<blank>"), blank=6)
    return Model(size, model.nodes, card)


def test_random_features_are_normalized_and_drift() -> None:
    x = synthetic_features(200, 8, 0)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)
    assert float((x[:, 1:] * x[:, :-1]).mean()) == pytest.approx(0.7, abs=0.02)
    assert torch.equal(x, synthetic_features(200, 8, 0))
    assert not torch.equal(x, synthetic_features(200, 8, 1))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_babble_is_audio_that_changes_like_speech(rate: int) -> None:
    audio = synthesize_speech(3.0, rate, np.random.default_rng(0))
    assert audio.dtype == np.float32
    assert 3.0 <= len(audio) / rate < 5.0
    assert 0.02 < np.abs(audio).max() <= 1.0
    pieces = audio[: len(audio) // 400 * 400].reshape(-1, 400)
    loudness = 10 * np.log10(np.square(pieces).mean(axis=1) + 1e-12)
    assert np.percentile(loudness, 95) - np.percentile(loudness, 5) > 15, "no syllables and pauses"
    spectrum = np.abs(np.fft.rfft(audio)) ** 2
    hertz = np.fft.rfftfreq(len(audio), 1 / rate)
    assert spectrum[hertz < 4000].sum() > spectrum[hertz >= 4000].sum()


def test_babble_is_made_by_its_seed() -> None:
    first, again, other = (
        synthesize_speech(1.0, 16000, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:8000], other[:8000])


def test_made_up_speech_is_normalized_as_the_card_says() -> None:
    model = with_card(speech_model())
    sounds = synthetic_batches(model, 0, SyntheticAmount(sounds=20, features=0))
    frames = torch.cat(
        [row[:n] for b in sounds for row, n in zip(b.features, b.lengths.tolist(), strict=True)]
    )
    torch.testing.assert_close(frames.mean(0), torch.zeros(model.input_size), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std(0), torch.ones(model.input_size), atol=1e-3, rtol=0)


def test_without_a_card_nothing_is_known() -> None:
    assert Calibration.synthetic().of(speech_model()) is NO_STATISTICS


def test_made_up_speech_shows_moments_and_fisher_information_of_every_matrix() -> None:
    model = with_card(speech_model())
    seen: list[Update] = []
    statistics = Calibration.synthetic(progress=seen.append).of(model)
    again = Calibration.synthetic().of(model)
    assert (seen[0].done, seen[-1].done) == (0, 192)
    assert {(update.stage, update.total) for update in seen} == {("calibrating", 192)}
    assert set(statistics) == {name for name, _ in model.matrices()}
    for name, matrix in model.matrices():
        moments = statistics[name]
        assert moments.fisher is not None
        assert moments.second.shape == (matrix.shape[1],) * 2
        assert moments.fisher.shape == matrix.shape[:1]
        assert float(moments.fisher.min()) >= 0
        assert torch.equal(moments.second, again[name].second)

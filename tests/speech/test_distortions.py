"""Bands, clipping, codecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tinyvox.speech import Audio, Augment, Corpus, Source, Utterance, clip, encode, limit_band
from tinyvox.speech.distortions import Codec
from tinyvox.speech.manifest import write_manifest

RATE = 16000


def tones(*hertz: float) -> Audio:
    time = np.arange(RATE) / RATE
    return sum(0.2 * np.sin(2 * np.pi * hz * time) for hz in hertz).astype(np.float32)  # type: ignore[union-attr]


def test_a_band_keeps_what_lies_within() -> None:
    found = limit_band(tones(100, 1000, 5000), RATE, 300, 3400)
    np.testing.assert_allclose(found, tones(1000), atol=1e-4)


def test_clipping_cuts_below_the_largest_sample() -> None:
    audio = tones(440)
    found = clip(audio, 6)
    limit = np.abs(audio).max() * 10 ** (-6 / 20)
    assert np.abs(found).max() == pytest.approx(limit, rel=1e-5)
    quiet = np.abs(audio) < limit
    np.testing.assert_array_equal(found[quiet], audio[quiet])
    assert not clip(np.zeros(10, np.float32), 6).any()


@pytest.mark.parametrize("codec", ["mp3", "opus"])
def test_a_codec_loses_more_at_fewer_bits(codec: Codec) -> None:
    audio = tones(300, 700, 1900) + np.random.default_rng(0).standard_normal(RATE) * 0.02
    audio = audio.astype(np.float32)

    def loss(compression: float) -> float:
        found = encode(audio, RATE, codec, compression)[:RATE]
        assert len(found) == RATE
        spectra = [np.abs(np.fft.rfft(each)) for each in (audio, found)]
        return float(np.square(spectra[0] - spectra[1]).sum() / np.square(spectra[0]).sum())

    few, many = loss(0.95), loss(0.1)
    assert many < few < 0.5


def test_draws_go_through_what_is_asked_for(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(440, 6000), RATE)
    write_manifest(tmp_path / "m.jsonl", [Utterance(tmp_path / "a.wav", 1.0, "a", "")])
    plain = {"speed": (1, 1), "gain_db": (0, 0), "noise_share": 0, "pad_share": 0}
    still = plain | {"digital_silence_share": 0}

    def drawn(**changes: object) -> Audio:
        augment = Augment.model_validate(still | changes)
        corpus = Corpus((Source(manifest=tmp_path / "m.jsonl"),), augment, {"a"}, RATE)
        return corpus.draw(np.random.default_rng(0))[0]

    def level(audio: Audio, hertz: int) -> float:
        return float(np.abs(np.fft.rfft(audio[: RATE // 2]))[hertz // 2])

    assert level(drawn(), 6000) > 700
    narrow = drawn(band_share=1, high_cut_hz=(3000, 3000))
    assert level(narrow, 6000) < 0.01 * level(narrow, 440)
    assert np.abs(drawn(clip_share=1, clip_db=(12, 12))).max() < 0.15
    assert np.abs(drawn(codec_share=1, compression=(0.95, 0.95))[:RATE] - drawn()).max() > 1e-3

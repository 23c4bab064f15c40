"""Statistics from speech: moments over utterances as they are in the audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_models import chain, linear
from tinyvox.calibration import DAMPING, Statistics, statistics_from_audio
from tinyvox.speech import Utterance, read_audio, write_manifest

from tinyvox.errors import DataError, ModelError
from tinyvox.model import Activation, Dense, Features, Model, SpeechCard
from tinyvox.passes import apply
from tinyvox.recipe import PruneSettings, QuantizeSettings, Recipe
from tinyvox.runtime import extract_features

RATE = 16000
FEATURES = Features(kind="log_mel", bands=8)


def recognizer() -> Model:
    torch.manual_seed(0)
    net = chain(8, dense=linear(16, 8), relu=Activation("relu"), out=linear(4, 16))
    return net.with_card(SpeechCard(features=FEATURES, tokens=("a", "b", "c", "_"), blank=3))


def manifest(folder: Path, *seconds: float) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for i, length in enumerate(seconds):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.standard_normal(int(length * RATE)) * 0.1 * (i + 1), RATE)
        rows.append(Utterance(path, length, "", ""))
    write_manifest(folder / "set.jsonl", rows)
    return folder / "set.jsonl"


def test_moments_are_those_of_all_frames_of_all_utterances(tmp_path: Path) -> None:
    model, data = recognizer(), manifest(tmp_path, 1.0, 0.001, 0.4)
    seen: list[tuple[int, int]] = []
    statistics = statistics_from_audio(model, data, lambda done, of: seen.append((done, of)))
    settings = FEATURES.model_dump()
    x = torch.from_numpy(
        np.concatenate(
            [extract_features(settings, read_audio(tmp_path / f"{i}.wav", RATE)) for i in (0, 2)]
        )
    ).double()
    weight = model.nodes[0].layer.weight.decode().double()  # type: ignore[union-attr]
    bias = model.nodes[0].layer.bias.double()  # type: ignore[union-attr]
    for name, inputs in (("dense.weight", x), ("out.weight", torch.relu(x @ weight.T + bias))):
        found = statistics[name]
        torch.testing.assert_close(found.second, inputs.T @ inputs / len(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.mean, inputs.mean(0), rtol=1e-4, atol=1e-4)
        assert found.damping == DAMPING
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_recipe_listens_again_where_inputs_changed(tmp_path: Path) -> None:
    data = manifest(tmp_path, 0.5)
    heard: list[Model] = []

    def look(model: Model):  # type: ignore[no-untyped-def]
        heard.append(model)
        return statistics_from_audio(model, data)

    recipe = Recipe.of(QuantizeSettings(bits=3))
    model = recognizer()
    by_ear, _ = apply(model, recipe, look=look)
    blind, _ = apply(model, recipe)
    assert len(heard) == 1
    assert any(
        not torch.equal(a.decode(), b.decode())
        for (_, a), (_, b) in zip(by_ear.matrices(), blind.matrices(), strict=True)
    )
    apply(model, Recipe.of(PruneSettings(keep=8), QuantizeSettings(bits=3)), look=look)
    assert [dict(m.matrices())["out.weight"].shape[1] for m in heard[1:]] == [16, 8]


def test_what_cannot_be_listened_to_is_one_line(tmp_path: Path) -> None:
    model = recognizer()
    with pytest.raises(ModelError, match="needs a speech card; add --speech FILE"):
        statistics_from_audio(Model(model.input_size, model.nodes), manifest(tmp_path, 0.5))
    with pytest.raises(DataError, match="no utterance is long enough for a frame"):
        statistics_from_audio(model, manifest(tmp_path, 0.001))


def same(one: Statistics, other: Statistics) -> bool:
    pairs = [(one[name], other[name]) for name in one]
    return set(one) == set(other) and all(
        torch.equal(a.second, b.second)
        and torch.equal(a.mean, b.mean)
        and (a.fisher is None) == (b.fisher is None)
        and (a.fisher is None or b.fisher is None or torch.equal(a.fisher, b.fisher))
        and (a.saliency is None) == (b.saliency is None)
        and (a.saliency is None or b.saliency is None or torch.equal(a.saliency, b.saliency))
        for a, b in pairs
    )


def test_evidence_is_kept_under_a_hash_of_model_audio_and_question(tmp_path: Path) -> None:
    model, data, cache = recognizer(), manifest(tmp_path, 0.5, 0.3), tmp_path / "kept"
    first = statistics_from_audio(model, data, fisher="outputs", cache=cache)
    (place,) = cache.iterdir()
    heard: list[int] = []
    again = statistics_from_audio(
        model, data, lambda done, _: heard.append(done), fisher="outputs", cache=cache
    )
    assert same(first, again)
    assert not heard, "listened though it was known"
    other = model.map_matrices(lambda _, matrix: Dense(matrix.decode() * 1.01))
    statistics_from_audio(other, data, fisher="outputs", cache=cache)
    statistics_from_audio(model, data, cache=cache)
    soundfile.write(tmp_path / "1.wav", np.zeros(RATE // 2), RATE)
    changed = statistics_from_audio(model, data, fisher="outputs", cache=cache)
    assert len(list(cache.iterdir())) == 4
    assert not same(first, changed)
    place.write_bytes(place.read_bytes()[:100])
    soundfile.write(tmp_path / "1.wav", np.zeros(RATE // 2), RATE)
    assert same(changed, statistics_from_audio(model, data, fisher="outputs", cache=cache))


def test_a_damaged_cache_is_listened_to_again(tmp_path: Path) -> None:
    model, data, cache = recognizer(), manifest(tmp_path, 0.5), tmp_path / "kept"
    first = statistics_from_audio(model, data, fisher="outputs", cache=cache)
    (place,) = cache.iterdir()
    for damage in (b"", b"PK\x03\x04 nothing", place.read_bytes()[:-40]):
        place.write_bytes(damage)
        assert same(first, statistics_from_audio(model, data, fisher="outputs", cache=cache))


def test_fisher_information_of_transcripts_needs_them(tmp_path: Path) -> None:
    model, data = recognizer(), manifest(tmp_path, 0.5)
    with pytest.raises(DataError, match=r"0\.wav: no transcript in the manifest"):
        statistics_from_audio(model, data, fisher="transcripts")
    said = [Utterance(tmp_path / "0.wav", 0.5, "abc", "")]
    fisher = statistics_from_audio(model, said, fisher="transcripts")["out.weight"].fisher
    assert fisher is not None
    assert float(fisher.min()) > 0


def test_more_audio_than_a_batch_is_all_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = recognizer(), manifest(tmp_path, 0.9, 0.5, 0.7, 0.2)
    whole = statistics_from_audio(model, data)
    monkeypatch.setattr("tinyvox.calibration.audio.BATCH_SECONDS", 1.0)
    for name, moments in statistics_from_audio(model, data).items():
        torch.testing.assert_close(moments.second, whole[name].second, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(moments.mean, whole[name].mean, rtol=1e-5, atol=1e-7)


def test_two_that_hear_the_same_at_once_both_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process keeps its statistics while this one is in the middle of writing the same."""
    model, data, cache = recognizer(), manifest(tmp_path, 0.5), tmp_path / "kept"
    write = np.savez

    def write_and_be_overtaken(*args: Any, **arrays: Any) -> None:
        write(*args, **arrays)
        monkeypatch.setattr(np, "savez", write)
        statistics_from_audio(model, data, cache=cache)

    monkeypatch.setattr(np, "savez", write_and_be_overtaken)
    found = statistics_from_audio(model, data, cache=cache)
    assert same(found, statistics_from_audio(model, data, cache=cache))
    assert [place.suffix for place in cache.iterdir()] == [".npz"]

"""Statistics from speech: moments over utterances as they are in the audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from small_models import chain, linear

from tinyvox.calibration import DAMPING, Calibration, Statistics
from tinyvox.calibration.calibration import REMEMBERED
from tinyvox.errors import DataError, ModelError
from tinyvox.model import Activation, Dense, Features, Model, SpeechCard
from tinyvox.passes import apply
from tinyvox.progress import Update
from tinyvox.recipe import PruneSettings, QuantizeSettings, Recipe
from tinyvox.runtime import extract_features
from tinyvox.speech import Utterance, read_audio, read_manifest, write_manifest
from tinyvox.storage import cache_folder

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


def statistics_of(model: Model, data: Path | list[Utterance], **options: Any) -> Statistics:
    """By a new calibration, as another run has it."""
    return Calibration.from_audio(data, **options).of(model)


def test_moments_are_those_of_all_frames_of_all_utterances(tmp_path: Path) -> None:
    model, data = recognizer(), manifest(tmp_path, 1.0, 0.001, 0.4)
    seen: list[Update] = []
    statistics = statistics_of(model, data, progress=seen.append)
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
    assert seen == [Update("calibrating", done, 3) for done in range(4)]


def test_a_stretch_calibrates_as_a_file_of_its_own(tmp_path: Path) -> None:
    """And is kept apart from other stretches of its file."""
    model, data = recognizer(), manifest(tmp_path, 1.0, 0.5)
    audio = read_audio(tmp_path / "0.wav", RATE)
    soundfile.write(tmp_path / "1.wav", audio[RATE // 2 :], RATE, subtype="FLOAT")
    whole, alone = read_manifest(data)
    stretch = replace(whole, offset=0.5, duration=0.5)
    found = [
        statistics_of(model, [each], cache=tmp_path / "kept") for each in (whole, stretch, alone)
    ]
    second = [statistics["dense.weight"].second for statistics in found]
    torch.testing.assert_close(second[1], second[2])
    assert not torch.allclose(second[0], second[1])


def test_a_recipe_calibrates_again_where_inputs_changed(tmp_path: Path) -> None:
    asked: list[Model] = []

    class Recorded(Calibration):
        def of(self, model: Model) -> Statistics:
            asked.append(model)
            return super().of(model)

    calibration = Recorded.from_audio(manifest(tmp_path, 0.5), cache=tmp_path / "kept")
    recipe = Recipe.of(QuantizeSettings(bits=3))
    model = recognizer()
    informed, _ = apply(model, recipe, calibration=calibration)
    blind, _ = apply(model, recipe)
    assert len(asked) == 1
    assert any(
        not torch.equal(a.decode(), b.decode())
        for (_, a), (_, b) in zip(informed.matrices(), blind.matrices(), strict=True)
    )
    both = Recipe.of(PruneSettings(keep=8), QuantizeSettings(bits=3))
    apply(model, both, calibration=calibration)
    assert [m.matrix("out.weight").shape[1] for m in asked[1:]] == [16, 8]
    assert len(list((tmp_path / "kept").iterdir())) == 1, "kept what was made on the way"


def test_the_last_models_are_remembered(tmp_path: Path) -> None:
    model, seen = recognizer(), list[Update]()
    calibration = Calibration.from_audio(
        manifest(tmp_path, 0.5), cache=tmp_path / "kept", progress=seen.append
    )
    first = calibration.of(model)
    assert calibration.of(model.with_provenance(source="elsewhere")) is first
    assert seen == [Update("calibrating", 0, 1), Update("calibrating", 1, 1)]
    for i in range(REMEMBERED):
        calibration.of(model.map_matrices(lambda _, m, i=i: Dense(m.decode() * (1 + i / 9 + 0.1))))
    assert calibration.of(model) is not first
    assert same(calibration.of(model), first)


def test_the_batches_are_those_of_the_statistics(tmp_path: Path) -> None:
    model = recognizer()
    statistics = statistics_of(model, manifest(tmp_path, 0.5, 0.3), fisher="outputs")
    assert statistics.model is model
    rows = [
        features[:length]
        for batch in statistics.batches()
        for features, length in zip(batch.features, batch.lengths.tolist(), strict=True)
    ]
    x = torch.cat(rows).double()
    second = statistics["dense.weight"].second
    torch.testing.assert_close(x.T @ x / len(x), second, rtol=1e-6, atol=1e-6)
    assert Statistics.of(statistics) is statistics
    bare = Statistics.of(dict(statistics))
    assert bare.model is None
    with pytest.raises(ModelError, match="without the batches"):
        bare.batches()


def test_what_cannot_be_calibrated_on_is_one_line(tmp_path: Path) -> None:
    model = recognizer()
    with pytest.raises(ModelError, match="needs a speech card; add --card FILE"):
        statistics_of(Model(model.input_size, model.nodes), manifest(tmp_path, 0.5))
    with pytest.raises(DataError, match="no utterance is long enough for a frame"):
        statistics_of(model, manifest(tmp_path, 0.001))


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


def test_statistics_are_kept_by_model_audio_and_settings(tmp_path: Path) -> None:
    model, data, cache = recognizer(), manifest(tmp_path, 0.5, 0.3), tmp_path / "kept"
    first = statistics_of(model, data, cache=cache)
    (place,) = cache.iterdir()
    seen: list[Update] = []
    assert same(first, statistics_of(model, data, cache=cache, progress=seen.append))
    assert not seen, "calibrated though the statistics were kept"
    other = model.map_matrices(lambda _, matrix: Dense(matrix.decode() * 1.01))
    statistics_of(other, data, cache=cache)
    statistics_of(model, data, fisher=None, cache=cache)
    statistics_of(model, data, seed=1, cache=cache)
    soundfile.write(tmp_path / "1.wav", np.zeros(RATE // 2), RATE)
    changed = statistics_of(model, data, cache=cache)
    assert len(list(cache.iterdir())) == 5
    assert not same(first, changed)
    place.write_bytes(place.read_bytes()[:100])
    soundfile.write(tmp_path / "1.wav", np.zeros(RATE // 2), RATE)
    assert same(changed, statistics_of(model, data, cache=cache))


def test_the_users_cache_folder_is_the_default(tmp_path: Path) -> None:
    before = set(cache_folder().rglob("*.npz"))
    statistics_of(recognizer(), manifest(tmp_path, 0.5))
    (kept,) = set(cache_folder().rglob("*.npz")) - before
    assert kept.parent == cache_folder() / "calibration"


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    model, data = recognizer(), manifest(tmp_path, 0.5)
    (tmp_path / "file").write_text("no folder")
    found = statistics_of(model, data, cache=tmp_path / "file")
    assert same(found, statistics_of(model, data, cache=tmp_path / "kept"))
    assert same(found, statistics_of(model, data, cache=tmp_path / "kept"))


def test_a_damaged_file_of_the_cache_is_computed_again(tmp_path: Path) -> None:
    model, data, cache = recognizer(), manifest(tmp_path, 0.5), tmp_path / "kept"
    first = statistics_of(model, data, cache=cache)
    (place,) = cache.iterdir()
    for damage in (b"", b"PK\x03\x04 nothing", place.read_bytes()[:-40]):
        place.write_bytes(damage)
        assert same(first, statistics_of(model, data, cache=cache))


def test_fisher_information_of_transcripts_needs_them(tmp_path: Path) -> None:
    model, data = recognizer(), manifest(tmp_path, 0.5)
    with pytest.raises(DataError, match=r"0\.wav: no transcript in the manifest"):
        statistics_of(model, data, fisher="transcripts")
    said = [Utterance(tmp_path / "0.wav", 0.5, "abc", "")]
    fisher = statistics_of(model, said, fisher="transcripts")["out.weight"].fisher
    assert fisher is not None
    assert float(fisher.min()) > 0


def test_more_audio_than_a_batch_all_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = recognizer(), manifest(tmp_path, 0.9, 0.5, 0.7, 0.2)
    whole = statistics_of(model, data)
    monkeypatch.setattr("tinyvox.calibration.audio.BATCH_SECONDS", 1.0)
    for name, moments in statistics_of(model, data).items():
        torch.testing.assert_close(moments.second, whole[name].second, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(moments.mean, whole[name].mean, rtol=1e-5, atol=1e-7)


def test_two_that_calibrate_at_once_both_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process keeps its statistics while this one is in the middle of writing the same."""
    model, data, cache = recognizer(), manifest(tmp_path, 0.5), tmp_path / "kept"
    write = np.savez

    def write_and_be_overtaken(*args: Any, **arrays: Any) -> None:
        write(*args, **arrays)
        monkeypatch.setattr(np, "savez", write)
        statistics_of(model, data, cache=cache)

    monkeypatch.setattr(np, "savez", write_and_be_overtaken)
    found = statistics_of(model, data, cache=cache)
    assert same(found, statistics_of(model, data, cache=cache))
    assert [place.suffix for place in cache.iterdir()] == [".npz"]

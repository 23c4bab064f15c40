"""The calls of `deepspeech` and `stt`, as programs that know these packages make them."""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tinyvox as tv
from tinyvox import stt
from tinyvox.formats.tvlm import save_ngrams, save_with_weights
from tinyvox.lm import estimate
from tinyvox.workflow import conversion

pytestmark = pytest.mark.runtime

COMMANDS = Path(__file__).resolve().parents[1] / "models" / "commands"
MODEL = COMMANDS / "commands-60x.tvx"
SCORERS = Path(__file__).resolve().parents[2] / "shared" / "lm" / "scorers"
WORDS = "yes no up down left right on off stop go oh zero one two three four five six eight nine"
CLIPS = [
    json.loads(line) for line in (COMMANDS / "clips" / "manifest.jsonl").read_text().splitlines()
]


def audio(clip: int) -> np.ndarray:
    samples: np.ndarray = soundfile.read(
        COMMANDS / "clips" / CLIPS[clip]["audio_filepath"], dtype="int16"
    )[0]
    return samples


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All commands, each as likely as the others after any."""
    rng = np.random.default_rng(0)
    words = WORDS.split()
    sentences = [" ".join(rng.choice(words, 5)) for _ in range(2000)]
    path = tmp_path_factory.mktemp("stt") / "commands.tvlm"
    save_ngrams(estimate(sentences, 2), path)
    return path


def test_a_program_that_knows_deepspeech_runs(scorer: Path) -> None:
    model = stt.Model(str(MODEL))
    assert (model.sampleRate(), model.beamWidth()) == (16000, 100)
    assert model.setBeamWidth(50) == 0
    assert model.beamWidth() == 50
    assert model.setScorerAlphaBeta(1.0, 1.0) == stt.NO_SCORER
    model.enableExternalScorer(str(scorer))
    assert model.setScorerAlphaBeta(0.5, 1.0) == 0
    texts = [model.stt(audio(clip)) for clip in range(4)]
    assert texts == [CLIPS[clip]["text"] for clip in range(4)]
    assert model.disableExternalScorer() == 0


def test_a_stream_gives_what_the_whole_gives() -> None:
    model = stt.Model(MODEL)
    samples = audio(0)
    whole = model.sttWithMetadata(samples, 3)
    for piece in (333, 16000):
        stream = model.createStream()
        for start in range(0, len(samples), piece):
            stream.feedAudioContent(samples[start : start + piece])
            assert isinstance(stream.intermediateDecode(), str)
        assert stream.finishStreamWithMetadata(3) == whole
    stream = model.createStream()
    stream.feedAudioContent(samples.tobytes())
    assert len(stream.intermediateDecodeWithMetadata(2).transcripts) == 2
    assert stream.finishStream() == model.stt(samples)


def test_flushed_buffers_end_a_copy_of_the_stream() -> None:
    """What a voice assistant does at each pause: the stream goes on as if nobody had asked."""
    model, samples = stt.Model(MODEL), audio(0)
    stream = model.createStream()
    half = len(samples) // 2
    stream.feedAudioContent(samples[:half])
    before = stream.intermediateDecode()
    assert stream.intermediateDecodeFlushBuffers() == model.stt(samples[:half])
    found = stream.intermediateDecodeWithMetadataFlushBuffers(2)
    assert found == model.sttWithMetadata(samples[:half], 2)
    assert stream.intermediateDecode() == before
    stream.feedAudioContent(samples[half:])
    assert stream.finishStream() == model.stt(samples)


def test_files_are_known_by_their_first_bytes(tmp_path: Path, scorer: Path) -> None:
    """Programs ask for names that end in .pbmm and .scorer."""
    shutil.copy(MODEL, tmp_path / "small.pbmm")
    shutil.copy(scorer, tmp_path / "small.scorer")
    model = stt.Model(str(tmp_path / "small.pbmm"))
    model.enableExternalScorer(str(tmp_path / "small.scorer"))
    assert model.stt(audio(0)) == CLIPS[0]["text"]


def test_scorers_of_characters_decode_character_by_character(tmp_path: Path) -> None:
    save_ngrams(estimate([" ".join(word) for word in WORDS.split()], 2), tmp_path / "c.tvlm")
    model = stt.Model(MODEL)
    model.enableExternalScorer(tmp_path / "c.tvlm")
    assert model.stt(audio(0)) == "".join(CLIPS[0]["text"].split())


def test_what_is_no_model_is_not_said_to_be_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path / "cache")
    for name in ("bad.tflite", "bad.scorer"):
        (tmp_path / name).write_bytes(b"bad" * 100)
    with caplog.at_level(logging.WARNING, "tinyvox"):
        with pytest.raises(RuntimeError, match=r"bad\.tflite"):
            stt.Model(tmp_path / "bad.tflite")
        with pytest.raises(RuntimeError, match=r"bad\.scorer"):
            stt.Model(MODEL).enableExternalScorer(tmp_path / "bad.scorer")
    assert not caplog.records
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_metadata_has_tokens_times_and_confidence() -> None:
    model = stt.Model(MODEL)
    found = model.sttWithMetadata(audio(0), 5)
    assert len(found.transcripts) == 5
    best = found.transcripts[0]
    assert "".join(token.text for token in best.tokens).strip() == model.stt(audio(0))
    assert [t.start_time for t in best.tokens] == [t.timestep * 0.02 for t in best.tokens]
    assert 0 <= best.tokens[0].start_time < best.tokens[-1].start_time < len(audio(0)) / 16000
    confidences = [each.confidence for each in found.transcripts]
    assert confidences == sorted(confidences, reverse=True)
    assert all(map(math.isfinite, confidences))


def test_alpha_and_beta_are_those_of_the_file(scorer: Path, tmp_path: Path) -> None:
    weighted = tmp_path / "weighted.tvlm"
    save_with_weights(scorer, weighted, (0.5, -40.0))  # words cost too much to be said
    model = stt.Model(str(MODEL))
    model.enableExternalScorer(weighted)
    short = model.stt(audio(0))
    assert len(short.split()) < len(CLIPS[0]["text"].split())
    model.setScorerAlphaBeta(0.5, 1.0)
    assert model.stt(audio(0)) == CLIPS[0]["text"]
    model.enableExternalScorer(weighted)
    assert model.stt(audio(0)) == short
    model.enableExternalScorer(scorer)
    assert model.stt(audio(0)) == CLIPS[0]["text"]


@pytest.mark.skipif(not SCORERS.exists(), reason="no scorers beside the project")
def test_a_scorer_keeps_its_alpha_and_beta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path)
    letters = [" ", *"abcdefghijklmnopqrstuvwxyz'"]
    made = conversion.converted_scorer(SCORERS / "pruned_lm.scorer", letters)
    assert tv.LanguageModel(made).weights == pytest.approx((0.75, 1.85))


def test_hot_words_are_added_and_taken_away(scorer: Path) -> None:
    model = stt.Model(MODEL)
    model.enableExternalScorer(scorer)
    plain = model.stt(audio(2))
    model.addHotWord("go", 200.0)
    assert "go" in model.stt(audio(2)).split()
    model.eraseHotWord("go")
    assert model.stt(audio(2)) == plain
    with pytest.raises(RuntimeError, match="'go' is no hot word"):
        model.eraseHotWord("go")
    with pytest.raises(RuntimeError, match="has a character that no token"):
        model.addHotWord("Go!", 1.0)
    model.addHotWord("go", 200.0)
    model.clearHotWords()
    assert model.stt(audio(2)) == plain


def test_what_fails_raises_runtime_error_in_one_line(tmp_path: Path, scorer: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gone\.tvx: cannot be read"):
        stt.Model(str(tmp_path / "gone.tvx"))
    model = stt.Model(MODEL)
    with pytest.raises(RuntimeError, match=r"gone\.scorer: cannot be read"):
        model.enableExternalScorer(str(tmp_path / "gone.scorer"))
    (tmp_path / "bad.tvlm").write_bytes(b"bad")
    with pytest.raises(RuntimeError, match=r"bad\.tvlm: not a tinyvox language model"):
        model.enableExternalScorer(tmp_path / "bad.tvlm")
    for width in (0, -1, "x", 10**30):
        with pytest.raises(RuntimeError, match=f"the beam width is {width!r}, expected"):
            model.setBeamWidth(width)
    for word, boost in ((None, 1.0), ("go", None), ("go", 1e300), ("go", math.nan), (" ", 1.0)):
        with pytest.raises(RuntimeError, match="hot word"):
            model.addHotWord(word, boost)
    with pytest.raises(RuntimeError, match="the number of texts is -1, expected"):
        model.sttWithMetadata(audio(2), -1)
    assert model.stt(audio(2))
    stream = model.createStream()
    with pytest.raises(RuntimeError, match="expected one channel"):
        stream.feedAudioContent(np.zeros((2, 10), np.int16))
    stream.freeStream()
    for call in (
        lambda: stream.feedAudioContent(audio(0)),
        stream.intermediateDecode,
        stream.finishStream,
        stream.freeStream,
    ):
        with pytest.raises(RuntimeError, match="Stream object is not valid"):
            call()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros(10), "audio is float64 of shape"),
        ([0.5, 0.25], "audio is float64 of shape"),
        (np.full(10, 40_000), "samples that int16 cannot hold"),
        (b"abc", "odd number of bytes"),
        (None, "audio is object of shape"),
    ],
)
def test_audio_of_another_kind_is_refused(given: Any, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        stt.Model(MODEL).stt(given)


def test_hot_words_do_not_hide_a_scorer_of_another_language(tmp_path: Path) -> None:
    save_ngrams(estimate(["բարև աշխարհ"] * 9, 2), tmp_path / "other.tvlm")
    model = stt.Model(MODEL)
    model.addHotWord("go", 9.0)
    with pytest.raises(RuntimeError, match=r"other\.tvlm: .* can spell none of the 2 words"):
        model.enableExternalScorer(tmp_path / "other.tvlm")
    model.clearHotWords()
    assert model.setScorerAlphaBeta(1.0, 1.0) == stt.NO_SCORER


def test_spaces_in_a_hot_phrase_count_once() -> None:
    model = stt.Model(MODEL)
    model.addHotWord(" go  left", 2.0)
    model.eraseHotWord("go left")


def test_a_foreign_model_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversion, "cache_folder", lambda: tmp_path / "cache")
    model = tmp_path / "commands.pt2"
    shutil.copy(COMMANDS / "commands.pt2", model)
    shutil.copy(COMMANDS / "commands.speech.yaml", tmp_path / "commands.speech.yaml")
    with caplog.at_level(logging.WARNING, "tinyvox"):
        text = stt.Model(str(model)).stt(audio(0))
        assert stt.Model(str(model)).stt(audio(0)) == text
    assert [record.message.split(": ")[1][:9] for record in caplog.records] == ["is conver"]
    assert text == CLIPS[0]["text"]


def test_the_version_is_that_of_tinyvox() -> None:
    assert stt.version() == tv.__version__
    assert "torch" not in vars(sys.modules["tinyvox.stt"])

"""Error rates and their intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from runtime_models import MODELS

import tinyvox as tv
from tinyvox.errors import DataError, ModelError
from tinyvox.evaluation import (
    Errors,
    change_interval,
    count_errors,
    evaluate,
    interval,
    lost_words,
    transcribe_with,
)
from tinyvox.formats import tvx
from tinyvox.model import INPUT, Dense, Features, Linear, Model, Node, SpeechCard
from tinyvox.progress import Update
from tinyvox.speech import Utterance

CARD = SpeechCard(features=Features(), tokens=(" ", "a", "b", "<blank>"), blank=3)


def errors(edits: list[int], words: list[int]) -> Errors:
    array = np.array(edits), np.array(words)
    return Errors(*array, *array, audio_seconds=1.0, seconds=0.5)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("one two three", "one two three", (0, 3, 0, 13)),
        ("one two three", "one too three four", (2, 3, 6, 13)),
        ("one two", "", (2, 2, 7, 7)),
        ("a b", "a c b", (1, 2, 2, 3)),
        ("", "a cd", (2, 0, 4, 0)),
        (" \n", "", (0, 0, 0, 0)),
        ("one\ttwo\n\nthree\xa0", "one two  three", (0, 3, 0, 13)),
        ("one\u3000two", "one", (1, 2, 4, 7)),
    ],
)
def test_edits_are_counted(
    reference: str, hypothesis: str, expected: tuple[int, int, int, int]
) -> None:
    assert count_errors(reference, hypothesis) == expected


def test_wer_weighs_utterances_by_their_words() -> None:
    assert errors([1, 0], [1, 9]).wer == pytest.approx(0.1)


def test_interval_is_the_normal_one_for_many_utterances() -> None:
    rng = np.random.default_rng(1)
    edits = (rng.random(2000) < 0.2).astype(np.int64)
    low, high = interval(edits, np.ones(2000, np.int64))
    rate = edits.mean()
    half = 1.96 * np.sqrt(rate * (1 - rate) / 2000)
    assert low == pytest.approx(rate - half, abs=0.003)
    assert high == pytest.approx(rate + half, abs=0.003)


def test_paired_interval_is_tight_where_the_models_agree() -> None:
    rng = np.random.default_rng(2)
    edits = (rng.random(500) < 0.3).astype(int).tolist()
    one = errors(edits, [1] * 500)
    assert change_interval(one, one) == (0.0, 0.0)
    worse = errors([e + (i % 50 == 0) for i, e in enumerate(edits)], [1] * 500)
    low, high = change_interval(one, worse)
    assert 0 < low < 0.02 < high < 0.04


def biased_model(token: int, card: SpeechCard | None = CARD) -> Model:
    bias = torch.zeros(4)
    bias[token] = 1.0
    return Model(26, (Node("output", Linear(Dense(torch.zeros(4, 26)), bias), (INPUT,)),), card)


def test_a_model_is_scored_on_files(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    utterances = [Utterance(tmp_path / "x.wav", 1.0, text, "") for text in ("a", "b")]
    facts = evaluate(biased_model(1), utterances).summary()
    assert facts["wer"] == 0.5
    assert facts["utterances"] == 2
    assert facts["wer_interval"][0] <= 0.5 <= facts["wer_interval"][1]


def test_no_transcript_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    with pytest.raises(DataError, match=r"x\.wav: no transcript"):
        evaluate(biased_model(1), [Utterance(tmp_path / "x.wav", 1.0, None, "")])


def test_an_empty_reference_counts_insertions(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    said = [Utterance(tmp_path / "x.wav", 1.0, text, "") for text in ("a", "")]
    facts = evaluate(biased_model(1), said).summary()
    assert (facts["wer"], facts["word_edits"], facts["words"]) == (1.0, 1, 1)
    low, high = facts["wer_interval"]
    assert 0 <= low <= 1 <= high
    facts = evaluate(biased_model(1), said[1:]).summary()
    assert (facts["wer"], facts["cer"], facts["wer_interval"]) == (None, None, None)
    assert (facts["word_edits"], facts["words"], facts["utterances"]) == (1, 0, 1)
    with pytest.raises(DataError, match=r"x\.wav: no words in this transcript"):
        lost_words(biased_model(1), said[1:])


def test_what_cannot_be_scored_is_left_out_and_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    (tmp_path / "bad.wav").write_bytes(b"hello")
    good = Utterance(tmp_path / "x.wav", 1.0, "b", "")
    silent, bad = replace(good, transcript=None), replace(good, path=tmp_path / "bad.wav")
    found = evaluate(biased_model(1), [bad, good, silent])
    assert [each.utterance for each in found.left_out] == [bad, silent]
    facts = found.summary()
    assert (facts["utterances"], facts["wer"]) == (1, 1.0)
    assert facts["left_out"][0]["audio_filepath"] == str(bad.path)
    assert "bad.wav: no audio" in facts["left_out"][0]["reason"]
    assert "x.wav: no transcript" in facts["left_out"][1]["reason"]
    with pytest.raises(DataError, match=r"bad\.wav: no audio .*; nor can the other 1 be scored"):
        evaluate(biased_model(1), [bad, silent])
    with pytest.raises(DataError, match=r"bad\.wav: no audio"):
        lost_words(biased_model(1), [bad, good])


def test_characters_that_no_token_gives_are_counted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    said = [Utterance(tmp_path / "x.wav", 1.0, text, "") for text in ("A\tB", "a, bA", "<")]
    found = evaluate(biased_model(1), said)
    assert found.unknown.counts == (("A", 2), ("B", 1), (",", 1), ("<", 1))
    assert str(found.unknown) == "'A' 2 times, 'B' once, ',' once, '<' once"
    assert "spell them out" in found.unknown.hint
    lower = evaluate(biased_model(1), said[:1], normalize="lower")
    assert lower.unknown.counts == ()
    assert (lower.word_edits.sum(), lower.case_edits) == (1, 0)
    upper = evaluate(biased_model(1), said[:1])
    assert "--normalize lower" in upper.unknown.hint
    assert (upper.word_edits.sum(), upper.case_edits) == (2, 1)


@pytest.mark.runtime
@pytest.mark.parametrize("name", ["grouped", "delays", "lstm"])
def test_audio_too_short_for_a_frame_has_no_text(tmp_path: Path, name: str) -> None:
    """In torch and in the native runtime; with one frame, layers that look at more have none."""
    model = MODELS[name]()
    outputs = model.signals[model.output].size
    letters = tuple(chr(ord("a") + i) for i in range(outputs))
    features = Features(kind="log_mel", bands=model.input_size)
    card = SpeechCard(features=features, tokens=letters, blank=outputs - 1)
    model = replace(model, card=card)
    tvx.save(model, tmp_path / "m.tvx")
    for recognizer in (model, tv.open(tmp_path / "m.tvx")):
        transcribe = transcribe_with(recognizer)[0]
        assert transcribe(np.zeros(0, np.float32)) == ""
        assert transcribe(np.zeros(100, np.float32)) == ""
        assert name == "lstm" or transcribe(np.zeros(512, np.float32)) == ""


def test_progress_is_told_of_each_utterance(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(16000), 16000)
    seen: list[Update] = []
    evaluate(biased_model(1), [Utterance(tmp_path / "x.wav", 1.0, "a", "")] * 3, seen.append)
    assert seen == [Update("transcribing", done, 3) for done in range(4)]


def test_nothing_to_evaluate_on_is_an_error() -> None:
    with pytest.raises(DataError, match="expected at least one"):
        evaluate(biased_model(1), [])


def test_no_card_is_an_error() -> None:
    with pytest.raises(ModelError, match="--card"):
        transcribe_with(biased_model(1, card=None))

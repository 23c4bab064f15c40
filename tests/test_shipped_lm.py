"""The language model that is shipped for the shipped DeepSpeech: small, sound, and heard."""

from __future__ import annotations

import json

import pytest
from places import ROOT
from typer.testing import CliRunner

from tinyvox import LanguageModel, cli
from tinyvox.formats.tvlm import load_ngrams
from tinyvox.lm import describe
from tinyvox.workflow import evaluate

pytestmark = pytest.mark.runtime

ARMSPEECH = ROOT / "models" / "armspeech"
ACOUSTIC = ARMSPEECH / "armspeech-50x.tvx"
ARMENIAN = ROOT / "models" / "lm" / "armenian.tvlm"
CLIPS = ARMSPEECH / "clips" / "manifest.jsonl"


def test_both_files_take_six_megabytes_at_most() -> None:
    assert ARMENIAN.stat().st_size <= 4_000_000
    assert ACOUSTIC.stat().st_size + ARMENIAN.stat().st_size <= 6_000_000


def test_the_armenian_model_is_sound() -> None:
    facts = describe(load_ngrams(ARMENIAN).model)
    assert facts["worst_total_mass"] == pytest.approx(1, abs=1e-3)
    assert facts["order"] == 3
    alpha, beta = LanguageModel(ARMENIAN).weights or (0, 0)
    assert 0.2 < alpha < 3
    assert -1 < beta < 5


def test_a_fifth_of_the_word_errors_of_the_clips_go() -> None:
    greedy = evaluate(ACOUSTIC, CLIPS).errors
    searched = evaluate(ACOUSTIC, CLIPS, lm=ARMENIAN).errors
    assert searched.word_edits.sum() < 0.8 * greedy.word_edits.sum()


def test_one_command_hears_a_clip_with_both_files() -> None:
    clip = json.loads(CLIPS.read_text(encoding="utf-8").splitlines()[0])
    audio = ARMSPEECH / "clips" / clip["audio_filepath"]
    command = ["transcribe", str(ACOUSTIC), str(audio), "--lm", str(ARMENIAN)]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert result.exit_code == 0
    known = set(LanguageModel(ARMENIAN).words)
    assert result.stdout.split()
    assert set(result.stdout.split()) <= known

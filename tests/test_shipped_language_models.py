"""The language models in models/lm are what their card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import COMMANDS

import tinyvox as tv
from tinyvox.formats.tvlm import load_ngrams
from tinyvox.lm import describe
from tinyvox.workflow import evaluate

FOLDER = Path(__file__).parents[1] / "models" / "lm"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
SIZES = {"english.tvlm": 4_000_000, "commands.tvlm": 8_000}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_sums(name: str) -> None:
    path = FOLDER / name
    assert path.stat().st_size <= SIZES[name]
    assert f"{path.stat().st_size:,}" in CARD
    facts = describe(load_ngrams(path).model)
    assert facts["worst_total_mass"] == pytest.approx(1, abs=1e-3)
    assert facts["order"] == 4


def test_english_prefers_sentences_to_the_same_words_in_another_order() -> None:
    model = tv.LanguageModel(FOLDER / "english.tvlm")
    good = model.score("it is a truth universally acknowledged")
    assert good > model.score("acknowledged truth a is universally it") + 3
    assert len(model) == 83_677


def test_the_lexicon_has_every_word_of_the_clips() -> None:
    model = tv.LanguageModel(FOLDER / "commands.tvlm")
    said = (COMMANDS / "clips" / "manifest.jsonl").read_text(encoding="utf-8")
    words = {word for line in said.splitlines() for word in json.loads(line)["text"].split()}
    assert [word for word in sorted(words) if word not in model] == []


@pytest.mark.runtime
def test_the_lexicon_mends_words_in_the_clips() -> None:
    model, clips = COMMANDS / "commands-100x.tvx", COMMANDS / "clips" / "manifest.jsonl"
    greedy = evaluate(model, clips).wer
    assert evaluate(model, clips, lm=FOLDER / "commands.tvlm").wer < greedy

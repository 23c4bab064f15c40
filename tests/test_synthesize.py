"""The speech of the commands model: its grammar, its voices and the clips in the repository."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
from places import COMMANDS

SCRIPT = COMMANDS / "synthesize.py"
CLIPS = COMMANDS / "clips"
LETTERS = set("abcdefghijklmnopqrstuvwxyz")
# The words of AN4 (CMU Census) besides the letters: what the model must have heard.
CENSUS = set(
    "zero one two three four five six seven eight nine oh ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand and half first second third fourth fifth sixth seventh eighth ninth "
    "eleventh twelfth fifteenth sixteenth eighteenth twentieth thirtieth january february march "
    "april may june july august september october december of enter erase rubout repeat help "
    "start stop go yes no apostrophe area code".split()
)

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthesize", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthesize"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


synthesize = load()


def manifest() -> list[dict[str, Any]]:
    lines = (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def espeak(*arguments: str) -> str:
    command = ["espeak-ng", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def variant(voice: str) -> str:
    return voice.split("+")[1]


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """As many as three hours hold."""
    rng = random.Random(7)
    return [synthesize.sentence(rng) for _ in range(5000)]


def test_sentences_hold_only_letters_and_single_spaces(sentences: list[str]) -> None:
    for text in sentences:
        assert set(text) <= LETTERS | {" "}
        assert text == " ".join(text.split()) != ""


def test_three_hours_hold_every_census_word_and_letter_ten_times(sentences: list[str]) -> None:
    words = " ".join(sentences).split()
    assert not {word for word in CENSUS | LETTERS if words.count(word) < 10}


def test_dates_have_days_that_exist() -> None:
    rng = random.Random(3)
    days = {*synthesize.ORDINALS, *synthesize.LATE_DAYS, *synthesize.DAY_NUMBERS}
    for _ in range(500):
        text = synthesize.date(rng)
        day = text.split(" of ")[0] if " of " in text else text.split(" ", 1)[1]
        assert any(f"{day} ".startswith(f"{known} ") for known in days), text


def test_letters_are_spoken_by_their_names() -> None:
    assert synthesize.spoken("a b z seven a") == "[['eI]] B [[z'i:]] seven [['eI]]"


def test_training_never_uses_a_reserved_variant() -> None:
    reserved = {variant(voice) for voice in synthesize.RESERVED_VOICES}
    assert not reserved & {variant(voice) for voice in synthesize.training_voices()}


def test_clips_are_few_and_small() -> None:
    listed = {row["audio_filepath"] for row in manifest()}
    assert len(listed) == 60
    assert {path.name for path in CLIPS.iterdir()} == {*listed, "manifest.jsonl"}
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) <= 1_000_000


def test_clips_match_their_manifest() -> None:
    for row in manifest():
        info = soundfile.info(CLIPS / row["audio_filepath"])
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.duration == pytest.approx(row["duration"], abs=0.002)
        assert 1.5 <= info.duration <= 4.001
        assert set(row["text"]) <= LETTERS | {" "}
        assert row["speaker"] in synthesize.RESERVED_VOICES


def test_missing_espeak_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("clips", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "espeak-ng" in done.stderr


@needs_espeak
@pytest.mark.parametrize("language", sorted(set(synthesize.LANGUAGES)))
def test_every_accent_names_the_letters_alike(language: str) -> None:
    said = espeak("-q", "-x", "-v", language, synthesize.spoken("a e h o z six a"))
    names = said.replace(";", "").split()
    assert names == ["'eI", "'i:", "'eItS", "'oU", "z'i:", "s'Iks", "'eI"]


@needs_espeak
def test_espeak_has_every_variant() -> None:
    """An unknown variant is no error to espeak-ng: it silently gives the plain voice."""
    listed = espeak("--voices=variant").splitlines()[1:]
    known = {line.split("!v/")[1].split()[0] for line in listed}
    used = {*synthesize.TRAIN_VARIANTS, *map(variant, synthesize.RESERVED_VOICES)}
    assert used <= known


@needs_espeak
def test_training_audio_is_deterministic(tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("one", "two")]
    for out in outs:
        assert run("train", out, "--hours", 0.003, "--workers", 1).returncode == 0
    one, two = ([(p.name, p.read_bytes()) for p in sorted(out.iterdir())] for out in outs)
    assert one == two
    assert len(one) == 6  # five utterances of about 2.15 s, and the manifest

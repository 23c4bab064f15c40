"""Subtitles from word times."""

from __future__ import annotations

import json

import pytest

from tinyvox.decode import Word, subtitles

WORDS = (
    Word("hello", 0.5, 0.9),
    Word("world", 1.0, 1.4),
    Word("again", 3.25, 3.999),
    Word("later", 3723.0, 3723.0004),
)


def test_subrip() -> None:
    assert subtitles(WORDS, "srt") == (
        "1\n00:00:00,500 --> 00:00:01,400\nhello world\n\n"
        "2\n00:00:03,250 --> 00:00:03,999\nagain\n\n"
        "3\n01:02:03,000 --> 01:02:03,000\nlater\n\n"
    )


def test_webvtt() -> None:
    text = subtitles(WORDS[:2], "vtt")
    assert text == "WEBVTT\n\n00:00:00.500 --> 00:00:01.400\nhello world\n"
    assert subtitles((), "vtt") == "WEBVTT\n"


def test_json() -> None:
    assert json.loads(subtitles(WORDS[2:3], "json")) == {
        "words": [{"word": "again", "start": 3.25, "end": 3.999}]
    }


def test_lines_are_short_and_do_not_stand_long() -> None:
    words = [Word("word", 0.5 * i, 0.5 * i + 0.4) for i in range(60)]
    lines = [cue.split("\n") for cue in subtitles(words, "srt").strip().split("\n\n")]
    assert all(len(text) <= 42 for _, _, text in lines)
    assert sum(len(text.split()) for _, _, text in lines) == 60
    slow = [Word("w", 0.7 * i, 0.7 * i + 0.6) for i in range(30)]
    assert all(len(cue.split("\n")[2].split()) <= 9 for cue in
               subtitles(slow, "srt").strip().split("\n\n"))  # fmt: skip


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'ass', expected srt, vtt, json"):
        subtitles((), "ass")

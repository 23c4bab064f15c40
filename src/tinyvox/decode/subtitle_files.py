"""Subtitles of a transcript: SubRip (.srt), WebVTT (.vtt) and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tinyvox.decode.transcripts import Word

FORMATS = ("srt", "vtt", "json")

WIDTH = 42
"""Characters of a line: what television takes."""
LONGEST = 6.0
"""Seconds that a subtitle stands at most."""
PAUSE = 0.8
"""Seconds of silence after which a new one begins."""


def subtitles(words: Sequence[Word], form: str) -> str:
    """The words as a file of subtitles, `form` one of FORMATS.

    A subtitle is a line of at most 42 characters that stands for 6 seconds at most; a pause ends
    it. JSON has one object for each word, as {"word", "start", "end"} in seconds. Raises ValueError
    for another form.
    """
    if form == "json":
        listed = [word.to_json() for word in words]
        return json.dumps({"words": listed}, ensure_ascii=False, indent=1) + "\n"
    if form not in FORMATS:
        raise ValueError(f"subtitles of the form {form!r}, expected {', '.join(FORMATS)}")
    point = "," if form == "srt" else "."
    cues = [_cue(line, point) for line in _lines(words)]
    if form == "vtt":
        return "\n\n".join(["WEBVTT", *cues]) + "\n"
    return "".join(f"{number}\n{cue}\n\n" for number, cue in enumerate(cues, 1))


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    lines: list[list[Word]] = []
    for word in words:
        if lines and _fits(lines[-1], word):
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _fits(line: Sequence[Word], word: Word) -> bool:
    characters = sum(len(each.text) + 1 for each in line) + len(word.text)
    near = word.start - line[-1].end < PAUSE and word.end - line[0].start <= LONGEST
    return near and characters <= WIDTH


def _cue(line: Sequence[Word], point: str) -> str:
    text = " ".join(word.text for word in line)
    return f"{_time(line[0].start, point)} --> {_time(line[-1].end, point)}\n{text}"


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"

"""Utterances of a report: what was said and heard, the most harmed first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tinyvox.report.alignment import Texts, compared
from tinyvox.report.subjects import ERRORS, Subject
from tinyvox.report.values import Value


@dataclass(frozen=True)
class Row:
    """An utterance. `harm` is by how many word edits the small model is worse than the original, or
    than the truth where there is no original; `audio` is None where there is no file."""

    harm: int
    speaker: str
    name: str
    audio: str | None
    edits: Value
    words: Value
    original_edits: Value | None
    texts: Texts


@dataclass(frozen=True)
class Utterances:
    """The rows that are shown, how many there are in all, and the speakers of those shown."""

    rows: tuple[Row, ...]
    total: int
    speakers: tuple[str, ...]


def utterances(subject: Subject, out: Path, most: int) -> Utterances:
    """At most so many utterances, the most harmed first; `out` is the folder of the report, from
    which audio is found."""
    given: Sequence[Mapping[str, Any]] = subject.get(ERRORS, "transcripts") or ()
    order = sorted(range(len(given)), key=lambda i: (-_harm(given[i]), -given[i]["word_edits"], i))
    rows = tuple(_row(subject, i, given[i], out) for i in order[:most])
    return Utterances(rows, len(given), tuple(sorted({r.speaker for r in rows if r.speaker})))


def _harm(row: Mapping[str, Any]) -> int:
    return int(row["word_edits"]) - int(row.get("original_word_edits") or 0)


def _row(subject: Subject, place: int, row: Mapping[str, Any], out: Path) -> Row:
    edits, words, before = (
        subject.number(ERRORS, f"transcripts.{place}.{key}", "count")
        for key in ("word_edits", "words", "original_word_edits")
    )
    assert edits is not None
    assert words is not None
    folder = subject.results[ERRORS][1].folder
    return Row(
        _harm(row),
        row.get("speaker") or "",
        Path(row["audio_filepath"]).name,
        audio_address(row, folder, out),
        edits,
        words,
        before,
        compared(row["reference"], row["text"], row.get("original_text")),
    )


def audio_address(row: Mapping[str, Any], folder: Path, out: Path) -> str | None:
    """The address of an utterance's audio, relative to the folder `out`: the file, and the stretch
    of it. It is found from the current folder, else from that of the result; None where it is
    not."""
    path = Path(row["audio_filepath"])
    found = next((each for each in (path, folder / path) if each.is_file()), None)
    if found is None:
        return None
    address = quote(os.fsencode(Path(os.path.relpath(found.resolve(), out.resolve())).as_posix()))
    start, length = row.get("offset") or 0.0, row.get("duration") or 0.0
    if not start:
        return address
    return f"{address}#t={start:g},{start + length:g}" if length else f"{address}#t={start:g}"

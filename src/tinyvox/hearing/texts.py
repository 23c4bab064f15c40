"""What was heard as JSON lines: written as it comes, and read where the work goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tinyvox.errors import FileError
from tinyvox.hearing.ears import Ear
from tinyvox.hearing.hearing import Heard, Pair, hear
from tinyvox.speech import Utterance
from tinyvox.storage import check_output, open_to_add
from tinyvox.workers import Executor

OWN = ("by", "audio_filepath", "offset", "duration", "audio_seconds", "seconds")
"""Keys of a line besides those of the result; `by` says what heard it."""
BEGINNING = b'{"by": "'
"""Of each line, and of no manifest."""


def heard_with_texts(
    ear: Ear,
    utterances: Iterable[Utterance],
    executor: Executor | None = None,
    texts: Path | None = None,
    *,
    scored: bool = False,
) -> Iterator[Pair]:
    """As `hear`; with `texts`, a file, a line is written there for each utterance, and what it has
    already is not heard again.

    Raises FileError where the file has other utterances, is of another model or search, or another
    run adds to it.
    """
    waiting = iter(utterances)
    if texts is None:
        yield from hear(ear, waiting, executor, scored=scored)
        return
    check_output(texts)
    by = ear.digest()
    with (
        open_to_add(texts, BEGINNING) as file,
        closing(hear(ear, waiting, executor, scored=scored)) as pairs,
    ):
        yield from _known(texts, waiting, by)
        for utterance, heard in pairs:
            file.write(json.dumps(_line(utterance, heard, by)) + "\n")
            file.flush()
            yield utterance, heard


def _line(utterance: Utterance, heard: Heard, by: str) -> dict[str, Any]:
    times = {"audio_seconds": round(heard.audio_seconds, 4), "seconds": round(heard.seconds, 6)}
    return {"by": by, **_place(utterance), **heard.result, **times}


def _place(utterance: Utterance) -> dict[str, Any]:
    """Which speech it is: the file, and the stretch of it."""
    where = {"offset": utterance.offset, "duration": utterance.duration}
    return {"audio_filepath": str(utterance.path), **where}


def _known(texts: Path, waiting: Iterator[Utterance], by: str) -> Iterator[Pair]:
    """The utterances that the file has, taken from those that wait. What a kill cut short goes."""
    with texts.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.endswith(b"\n"):
                break
            utterance = next(waiting, None)
            line = _parsed(text)
            if line is None or utterance is None or not _place(utterance).items() <= line.items():
                raise FileError(f"{texts}:{number}: is of other speech; name another file")
            if line["by"] != by:
                raise FileError(
                    f"{texts}:{number}: is of another model, language model or search; name "
                    "another file"
                )
            result = {key: value for key, value in line.items() if key not in OWN}
            yield utterance, Heard(result, line["audio_seconds"], line["seconds"])
    _cut(texts)  # not before it is known whose file it is


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and set(OWN) <= set(line) else None


def _cut(texts: Path) -> None:
    """Take off a last line without an end."""
    with texts.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)

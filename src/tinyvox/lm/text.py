"""Files of text, plain or compressed, and the sentences in them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tinyvox.errors import DataError, FileError
from tinyvox.progress import Progress, Update, silent
from tinyvox.storage import open_input

ENDS = frozenset(("<s>", "</s>"))
PIECE = 1 << 20
"""Bytes of text that are read at once; no line may be longer."""
_OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\0": lzma.open,
    b"BZh": bz2.open,
}
"""How files begin that are compressed, and what opens them."""


@contextmanager
def open_text(path: Path, progress: Progress = silent) -> Iterator[Iterator[bytes]]:
    """The bytes of a file in pieces; decompressed, where it is of gzip, xz or bzip2.

    `progress` is told how many MB of the file have been read. Raises FileError where it cannot be
    read or decompressed.
    """
    with open_input(path) as raw:
        head = raw.peek(6)  # type: ignore[attr-defined]
        opener = next((o for magic, o in _OPENERS.items() if head.startswith(magic)), None)
        try:
            yield _pieces(path, raw, opener(raw) if opener else raw, progress)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise FileError(f"{path}: cannot be decompressed, or is cut off: {error}") from error


def _pieces(path: Path, raw: IO[bytes], file: IO[bytes], progress: Progress) -> Iterator[bytes]:
    total = path.stat().st_size // 10**6
    while piece := file.read(PIECE):
        done = raw.tell() // 10**6 if raw.seekable() else 0
        progress(Update("reading MB", done, total or None))
        yield piece


def read_sentences(path: Path, progress: Progress = silent) -> Iterator[str]:
    """The lines of a file of text in UTF-8, plain or compressed, without empty ones.

    Raises FileError as `open_text` does; DataError, with the line, for what is no UTF-8, for the
    character U+0000, for a line of more than a megabyte, and for one that holds `<s>` or `</s>`;
    and for a text without words.
    """
    sentence = None
    for number, sentence in _numbered(path, progress):
        if ENDS.intersection(sentence.split()):
            raise DataError(f"{path}:{number}: holds <s> or </s>; take out what marks its ends")
        yield sentence
    if sentence is None:
        raise DataError(f"{path}: has no words; expected text, a sentence a line")


def read_words(path: Path) -> list[str]:
    """The lines of a list of words, without empty ones. Raises as `read_sentences`, but for what
    marks ends, which are words of a language model too."""
    return [line.strip() for _, line in _numbered(path, silent)]


def _numbered(path: Path, progress: Progress) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, and their numbers."""
    number, rest = 0, b""
    with open_text(path, progress) as pieces:
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > PIECE:
                raise DataError(f"{path}:{number + len(lines) + 1}: a line of over {PIECE:,} bytes")
            for line in lines:
                number += 1
                yield from _sentence(path, number, line)
        yield from _sentence(path, number + 1, rest)


def _sentence(path: Path, number: int, line: bytes) -> Iterator[tuple[int, str]]:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: no UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}:{number}: holds the character U+0000; save it as UTF-8 text")
    if text.strip():
        yield number, text

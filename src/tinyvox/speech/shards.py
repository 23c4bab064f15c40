"""Large sets in parts: names that stand for several files, and audio in tar files as WebDataset
has them."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tinyvox.errors import DataError

AUDIO = ("wav", "flac", "ogg", "opus", "mp3")
"""Endings of the audio in a tar file."""
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_FILES = 1_000_000
LARGEST_TEXT = 1 << 20
"""Bytes of a member with text."""


@dataclass(frozen=True)
class Packed:
    """A file inside a tar file: `size` bytes from `start` on."""

    tar: Path
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes. Raises DataError where they are not there."""
        try:
            with self.tar.open("rb") as file:
                file.seek(self.start)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.tar}: cannot be read: {error.strerror}") from error
        if len(content) < self.size:
            raise DataError(f"{self.tar}: is cut short: it ends inside a file that it holds")
        return content


def shard_paths(path: Path) -> list[Path]:
    """The files that a name stands for, in order: itself; those that match, where it has `*`, `?`
    or `[...]`; those of a range of numbers, as in `shard-{000000..000099}.tar`.

    Raises DataError where none matches.
    """
    if path.exists():
        return [path]
    if (found := RANGE.search(str(path))) is not None:
        return _range(path, found)
    if not glob.has_magic(str(path)):
        return [path]
    matches = sorted(Path(name) for name in glob.glob(str(path)))
    if not matches:
        raise DataError(f"{path}: no file has such a name")
    return matches


def _range(path: Path, found: re.Match[str]) -> list[Path]:
    first, last = (int(number) for number in found.groups())
    if not 0 <= last - first < MOST_FILES:
        raise DataError(f"{path}: {found[0]} is no range of files, expected as in {{000..099}}")
    before, after = str(path)[: found.start()], str(path)[found.end() :]
    width = len(found[1])
    return [Path(f"{before}{number:0{width}}{after}") for number in range(first, last + 1)]


def packed_rows(path: Path) -> Iterator[tuple[int, str, Packed, dict[str, Any]]]:
    """The samples of a tar file: the number of each, the name of its audio, where that is, and what
    its `.json` says, or its `.txt`, as `text`.

    A sample is a run of files whose names are the same up to the first point. Raises DataError
    where the file is no plain tar file, or a sample has not one audio file.
    """
    for number, (key, members) in enumerate(_samples(path), 1):
        sounds = [name for name in members if name in AUDIO]
        if len(sounds) != 1:
            found = ", ".join(f".{name}" for name in members)
            raise DataError(f"{path}: {key} has {found}; expected one of .{', .'.join(AUDIO)}")
        name = sounds[0]
        yield number, f"{key}.{name}", members[name], _said(path, key, members)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, Packed]]]:
    key, members = "", dict[str, Packed]()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isreg() or member.issparse():
                    continue
                own, ending = _split(member.name)
                if own != key and members:
                    yield key, members
                    members = {}
                key = own
                members[ending] = Packed(path, member.offset_data, member.size)
    except tarfile.TarError as error:
        hint = "expected a tar file that is not compressed"
        raise DataError(f"{path}: cannot be read: {error}; {hint}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if members:
        yield key, members


def _split(name: str) -> tuple[str, str]:
    """`a/b.c.wav` as `a/b` and `c.wav`: the key and the ending, in lower case."""
    inside = PurePosixPath(name)
    key, _, ending = inside.name.partition(".")
    return str(inside.with_name(key)) if key else name, ending.lower()


def _said(path: Path, key: str, members: dict[str, Packed]) -> dict[str, Any]:
    """What is known of a sample. Raises DataError for text that is none."""
    for name in ("json", "txt"):
        if name not in members:
            continue
        where = f"{path}: {key}.{name}"
        if members[name].size > LARGEST_TEXT:
            raise DataError(f"{where}: {members[name].size:,} bytes, expected {LARGEST_TEXT:,}")
        try:
            text = members[name].read().decode("utf-8-sig")
            row = json.loads(text) if name == "json" else {"text": text.strip()}
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: no UTF-8 text, or no JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object with text")
        return row
    return {}

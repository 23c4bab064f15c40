"""Whether files can be read and written, before the work begins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tinyvox.errors import FileError, TinyvoxError
from tinyvox.storage.atomic import unwritable


def open_input(path: Path, fault: type[TinyvoxError] = FileError) -> IO[bytes]:
    """Open a plain file or a pipe for reading.

    Raises `fault`, with the path, for a folder, for a device, which might never end, and where
    there is nothing that can be opened.
    """
    try:
        if path.is_char_device() or path.is_block_device():
            raise fault(f"{path}: is a device; expected a file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise fault(f"{path}: cannot be read: {reason}") from error


def check_inputs(paths: Iterable[Path]) -> None:
    """Raise FileError where one cannot be opened as a plain file: before the work on the first."""
    for path in paths:
        if not path.is_fifo():  # what is read from a pipe is gone
            open_input(path).close()


def check_output(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Raise FileError where no file can be written at `path`, or its name has none of the suffixes,
    in any case: before the work, not after it."""
    folder = path.parent
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder; expected the name of a file to write")
        if path.exists() and not path.is_file():
            raise FileError(f"{path}: is a device or a pipe; expected the name of a file to write")
        if not folder.is_dir():
            raise FileError(f"{path}: there is no folder {folder}; make it, or name another")
    except (OSError, ValueError) as error:  # a name that is too long, or no name
        raise unwritable(path, error) from error
    if suffixes and path.suffix.lower() not in suffixes:
        found = path.suffix or "no suffix"
        raise FileError(f"{path}: found {found}, expected a name with {' or '.join(suffixes)}")
    _check_writable(folder, path)


def check_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises FileError where files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise FileError(f"{folder}: cannot be made a folder: {said}; name another") from error
    _check_writable(folder, folder)


def _check_writable(folder: Path, path: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{path}: the folder {folder} cannot be written to; name another")


def check_space(path: Path, needed: int) -> None:
    """Raise FileError where the disk of a file has fewer bytes free than are needed."""
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FileError(
            f"{path}: the disk has {free:,} bytes free, expected {needed:,}; "
            "make room, or name a file on another disk"
        )


def check_apart(outputs: Mapping[str, Path], inputs: Iterable[Path]) -> None:
    """Raise FileError where an output, by what it is, is an input or another output: by the same
    name, by another way to it, or by a link."""
    given = list(inputs)
    seen: dict[Path, str] = {}
    for what, path in outputs.items():
        if (other := seen.setdefault(path.resolve(), what)) != what:
            raise FileError(f"{path}: is to be both {other} and {what}; name two files")
        if any(_is_same(path, each) for each in given):
            raise FileError(f"{path}: is an input, and would be overwritten; name another file")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are of one file; a name that is free is that of none."""
    with suppress(OSError, ValueError):
        return one.samefile(other)
    return False

"""Files of lines that one run after the other adds to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

from tinyvox.errors import FileError
from tinyvox.storage.checks import open_input

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl


def open_to_add(path: Path, beginning: bytes) -> IO[str]:
    """A file to which lines are added, by nobody else as long as it is open. Raises FileError where
    it cannot be written, does not begin as its lines do, or another run adds to it."""
    check_going_on(path, beginning)
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        _lock(file, path)
    except FileError:
        file.close()
        raise
    return file


def _lock(file: IO[Any], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(
            f"{path}: another run is adding to it; wait until that has ended, or name another"
        ) from error
    except OSError:
        pass  # some file systems know no locks


def check_going_on(path: Path, beginning: bytes) -> None:
    """Before lines are added to a file, or taken from it: raise FileError where there is one that
    does not begin as its lines do, and so is of something else."""
    if not path.exists():
        return
    with open_input(path) as file:
        found = file.read(len(beginning))
    if not beginning.startswith(found):
        raise FileError(
            f"{path}: begins with {found[:20]!r}, expected {beginning.decode()!r}: is a file of "
            "something else; name another"
        )

"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import io
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tinyvox.errors import FileError

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl


@contextmanager
def atomic_writer(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file that takes its name when it is whole; until then, the old file stays.

    It is written beside `path`, synced to the disk and renamed. Nothing is left where the block
    raises, and what a killed process left is removed by the next one that writes the same file.
    Ctrl-C takes effect afterwards. Raises FileError where the folder or the disk does not allow it:
    what the disk does not take is told at the end of the block.
    """
    with atomic_writers(path) as files:
        yield files[0]


@contextmanager
def atomic_writers(*paths: Path | str) -> Iterator[Sequence[IO[bytes]]]:
    """Several files, as `atomic_writer` has one: they take their names when all are whole."""
    parts: list[_Part] = []
    with interrupted_afterwards():
        try:
            for path in paths:
                parts.append(_Part(Path(path)))
            yield [part.file for part in parts]
            for part in parts:
                part.complete()
            for part in parts:
                part.take_name()
        except OSError as error:
            raise unwritable(Path(paths[0]), error) from error
        except Exception as error:
            for part in parts:
                if part.raw.fault is not None:  # what the block met was made of this
                    raise unwritable(part.path, part.raw.fault) from error
            raise
        finally:
            for part in parts:
                part.remove()


class _Part:
    """A file that is being written, beside the name that it will take."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
        try:
            _remove_left_over(path)
            self.raw = _Patient(self._temporary)
        except (OSError, ValueError) as error:  # a name may be none
            raise unwritable(path, error) from error
        self.file = io.BufferedWriter(self.raw)

    def complete(self) -> None:
        """Bring everything to the disk. Raises FileError where it does not take it."""
        try:
            self.file.flush()
            if self.raw.fault is not None:
                raise self.raw.fault
            os.fsync(self.file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.file.close()

    def take_name(self) -> None:
        """Replace the old file. Raises FileError."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def remove(self) -> None:
        """Leave nothing of what has not taken its name."""
        with suppress(OSError):
            self.file.close()
            self._temporary.unlink(missing_ok=True)


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt only at the end of the block.

    Signals reach the main thread alone; another thread, or a program with its own handler of the
    signal, is left as it is.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class _Patient(io.FileIO):
    """A new file, locked while it is open, that remembers the first `fault` of the disk instead of
    raising it: torch ends the whole process where a file that it writes raises an error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self.fault: OSError | None = None
        if fcntl is not None:
            with suppress(OSError):  # some file systems know no locks
                fcntl.flock(self, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write(self, content: Any) -> int:
        """Write, or take what can no longer be written."""
        if self.fault is None:
            try:
                return super().write(content)
            except OSError as error:
                self.fault = error
        return memoryview(content).nbytes


def _remove_left_over(path: Path) -> None:
    """Remove what killed processes left of this file: nobody holds its lock."""
    if fcntl is None:
        return
    for left in path.parent.glob(f".{glob.escape(path.name[:40])}.????????.tmp"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def unwritable(path: Path, error: Exception) -> FileError:
    """The error to raise where a file cannot be written."""
    said = error.strerror if isinstance(error, OSError) else None
    return FileError(f"{path}: cannot be written: {said or error}")


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as `atomic_writer` does."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)

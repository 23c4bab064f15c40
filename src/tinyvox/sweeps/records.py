"""Results of tasks as JSON lines, each written when it comes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinyvox.errors import FileError
from tinyvox.storage import open_to_add

Record = dict[str, Any]
"""The result of a task: `task`, and `compress` and `eval` as these commands print them, or
`error`."""

BEGINNING = b'{"task": '
"""Of each line."""


class Records:
    """The file of results, of one run at a time until `close`. The last line of a task counts."""

    def __init__(self, path: Path) -> None:
        """Read what is there. A last line that a kill cut short goes. Raises FileError where the
        file holds something else, cannot be written, or another run adds to it."""
        self.path = path
        self._by_key: dict[str, Record] = {}
        self._file = open_to_add(path, BEGINNING)
        try:
            self._read()
        except FileError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the file to others."""
        self._file.close()

    def _read(self) -> None:
        path = self.path
        try:
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror}") from error
        for number, line in enumerate(whole.splitlines(), 1):
            record = _parsed(line)
            if record is None:
                raise FileError(f"{path}:{number}: is no result of a sweep; name another folder")
            self._by_key[record["task"]["key"]] = record
        if len(whole) < len(content):
            self._cut(len(whole))

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self.path, size)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written: {error.strerror}") from error

    def done(self, key: str) -> Record | None:
        """The result of a task; None where there is none, or it failed."""
        record = self._by_key.get(key)
        return None if record is None or "error" in record else record

    def add(self, record: Record) -> None:
        """Write a result to the disk. Raises FileError."""
        self._by_key[record["task"]["key"]] = record
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written: {error.strerror}") from error


def _parsed(line: bytes) -> Record | None:
    with suppress(ValueError, TypeError, KeyError):
        record: Record = json.loads(line)
        if isinstance(record["task"]["key"], str):
            return record
    return None

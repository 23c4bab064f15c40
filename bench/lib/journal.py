"""Rows that are kept as they are measured, so that a call that was cut off goes on from there."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from pathlib import Path

from lib.results import Row


class Journal:
    """A file of JSON lines; `keys` are the entries of a row that say what was measured."""

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self.path, self.keys = path, tuple(keys)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows = {self.key_of(row): row for row in map(json.loads, lines)}

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order in which they were measured."""
        return list(self._rows.values())

    def key_of(self, row: Row) -> tuple[Hashable, ...]:
        """What a row is found by."""
        return tuple(row[key] for key in self.keys)

    def get(self, *key: Hashable) -> Row | None:
        """The row of this key, where it was measured."""
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        """Keep a row, on the disk too."""
        self._rows[self.key_of(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps(row), file=file)

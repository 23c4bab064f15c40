"""What a search has come to, in a file from which it goes on after it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

from tinyvox.storage import write_file

Pairs = dict[str, tuple[int | None, float]]
"""A rank, or None, and coded bits for every matrix."""


class State:
    """Ranks and bits that searches have come to, by search, budget and correction, in a file;
    without one nothing is kept."""

    def __init__(self, path: Path | None, key: str) -> None:
        """A file of another `key`, or that cannot be read, counts as none."""
        self.path, self.key = path, key
        self.found: dict[str, Pairs] = {}
        if path is not None and path.exists():
            try:
                held = json.loads(path.read_text(encoding="utf-8"))
                self.found = held["found"] if held["key"] == key else {}
            except (OSError, ValueError, KeyError, TypeError):
                self.found = {}

    def recall(self, place: str) -> Pairs | None:
        """The rank and the bits of every matrix, where they were kept."""
        return self.found.get(place)

    def keep(self, place: str, pairs: Pairs) -> None:
        """Keep the rank and the bits of every matrix. Raises FileError where the file cannot be
        written."""
        self.found[place] = pairs
        if self.path is not None:
            write_file(self.path, json.dumps({"key": self.key, "found": self.found}))

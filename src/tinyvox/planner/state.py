"""What a search has come to, in a file from which it goes on after it was interrupted."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tinyvox.planner.choices import Choice
from tinyvox.storage import write_file


class Found(BaseModel):
    """What a search found at one place: the choice of every matrix, and the bytes by which the last
    file that it tried was larger than by formula. The next search begins with all of that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chosen: dict[str, Choice]
    missed: float


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    found: dict[str, Found] = {}


class State:
    """What searches have come to, by search, budget and correction, in a file; without one nothing
    is kept."""

    def __init__(self, path: Path | None, key: str) -> None:
        """A file of another `key`, or that cannot be read, counts as none."""
        self.path = path
        self._document = _Document(key=key)
        if path is not None and path.exists():
            try:
                held = _Document.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):
                return
            if held.key == key:
                self._document = held

    def recall(self, place: str) -> Found | None:
        """What was found there, where it was kept."""
        return self._document.found.get(place)

    def keep(self, place: str, found: Found) -> None:
        """Keep what was found. Raises FileError where the file cannot be written."""
        if self._document.found.get(place) == found:
            return
        self._document.found[place] = found
        if self.path is not None:
            write_file(self.path, self._document.model_dump_json())

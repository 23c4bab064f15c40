"""What turns audio into text, as values that other processes can open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tinyvox import runtime
from tinyvox.decode import BeamSearch
from tinyvox.errors import ModelError
from tinyvox.runtime import Samples, Session
from tinyvox.storage import open_input

Result = dict[str, Any]
"""`text`, and with a search `confidence` and `words`, as JSON has them."""
Listener = tuple[Callable[[Samples], Result], int]
"""A function that hears samples, and the sample rate (Hz) that they must have."""


class Ear(Protocol):
    """A recognizer that is not open yet. It goes to other processes as it is."""

    def opened(self) -> Listener:
        """The recognizer, open. Raises FileError and ModelError."""

    def digest(self) -> str:
        """The same for what gives the same texts."""


@dataclass(frozen=True)
class SessionEar:
    """A .tvx file in the native runtime; `settings` are those of a `BeamSearch`, of which any, or a
    language model, makes it search."""

    model: Path
    lm: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def opened(self) -> Listener:
        """The file, open. Raises FileError, and ModelError where it gives no text."""
        session = runtime.open(self.model)
        if not session.has_speech:
            raise ModelError(
                f"{self.model}: has no speech card, so it gives no text; compress with --card"
            )
        search = self._search(session) if self.lm is not None or self.settings else None

        def listen(samples: Samples) -> Result:
            stream = session.stream(search)
            stream.feed(samples)
            text = stream.finish()
            if search is None:
                return {"text": text}
            best = stream.best()[0]
            words = [word.to_json() for word in best.words]
            return {"text": text, "confidence": best.confidence, "words": words}

        return listen, session.sample_rate

    def _search(self, session: Session) -> BeamSearch:
        try:
            return session.search(self.lm, **self.settings)
        except ValueError as error:
            raise ModelError(f"the model cannot be decoded so: {error}") from error

    def digest(self) -> str:
        """Of the files and the settings."""
        return digest_of((self.model, self.lm), self.settings)


def digest_of(files: Iterable[Path | None], settings: Mapping[str, Any]) -> str:
    """A hash of files and settings, short. Raises FileError for a file that cannot be read."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for path in files:
        if path is not None:
            with open_input(path) as file:
                digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:16]

"""Foreign model files as models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyvox.errors import ImporterError
from tinyvox.importers.torch import from_torch, load_pt2
from tinyvox.model import Model, SpeechCard, card_path, load_card

__all__ = ["IMPORTERS", "from_torch", "load", "load_pt2"]

IMPORTERS: dict[str, Callable[[Path, SpeechCard | None], Model]] = {
    ".pt2": load_pt2,
}
"""What reads a file, by its suffix."""


def load(path: str | Path, card: SpeechCard | None = None) -> Model:
    """The model in a file, with its speech card: `card`, or else the one that lies beside it.

    Raises ImporterError where the file cannot be read or holds what tinyvox does not know,
    FileError where its card is wrong, ModelError where card and model do not fit.
    """
    path = Path(path)
    importer = IMPORTERS.get(path.suffix.lower())
    if importer is None:
        known = ", ".join(IMPORTERS)
        raise ImporterError(f"{path}: no importer reads {path.suffix!r}, expected one of {known}")
    if not path.is_file():
        raise ImporterError(f"{path}: there is no such file")
    if card is None and card_path(path).exists():
        card = load_card(card_path(path))
    return importer(path, card)

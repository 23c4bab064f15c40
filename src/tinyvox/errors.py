"""The exceptions that tinyvox raises. Every message is one line that says what to do."""

from __future__ import annotations

import re

_SHAPE = re.compile(r"\[((?:-?\d+, ){8})(?:-?\d+, )*-?\d+\]")
"""A list of more than eight numbers, and its first eight."""


class TinyvoxError(Exception):
    """Base of all errors that are the input's fault rather than a bug."""


class ModelError(TinyvoxError):
    """A model is inconsistent: a shape, a name or a value does not fit."""


class ImporterError(TinyvoxError):
    """A foreign model cannot be read, or holds an operator outside the supported set.

    A file may declare a shape of any number of dimensions: the message shows eight of them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_SHAPE.sub(r"[\1...]", message))


class FileError(TinyvoxError):
    """A file is missing, damaged, or not of the kind that was expected."""


class DataError(TinyvoxError):
    """A manifest, an audio file or a transcript cannot be used."""


class DataWarning(UserWarning):
    """Something that was given can be used as it is, but is probably a mistake. One line."""


class RecipeError(TinyvoxError):
    """A recipe or a training configuration asks for something that cannot be done."""


class WorkerError(TinyvoxError):
    """A process or a cluster that works for us is not there, or was killed again and again."""

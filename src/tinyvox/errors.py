"""The exceptions that tinyvox raises. Every message is one line that says what to do."""

from __future__ import annotations


class TinyvoxError(Exception):
    """Base of all errors that are the input's fault rather than a bug."""


class ModelError(TinyvoxError):
    """A model is inconsistent: a shape, a name or a value does not fit."""


class ImporterError(TinyvoxError):
    """A foreign model cannot be read, or holds an operator outside the supported set."""


class FileError(TinyvoxError):
    """A file is missing, damaged, or not of the kind that was expected."""


class DataError(TinyvoxError):
    """A manifest, an audio file or a transcript cannot be used."""


class DataWarning(UserWarning):
    """Something in a manifest that can be used as it is, but is probably a mistake. One line."""


class RecipeError(TinyvoxError):
    """A recipe or a training configuration asks for something that cannot be done."""

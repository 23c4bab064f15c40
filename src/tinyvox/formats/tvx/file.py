"""Save and load a `.tvx` file.

The native parser reads every file, and checks every byte before it is used. It also reads what is
about to be saved, so that no file is written that cannot be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox import _native
from tinyvox.errors import FileError, ModelError
from tinyvox.formats.tvx.read import model_of
from tinyvox.formats.tvx.write import encode
from tinyvox.model import Model
from tinyvox.storage import describe, write_file


def save(model: Model, path: Path | str) -> int:
    """Write a model, and return the size of the file in bytes.

    The same model always gives the same bytes. The file appears whole or not at all. Raises
    ModelError where the model exceeds the limits of the format, FileError where the file cannot be
    written.
    """
    data = encode(model)
    try:
        _native.parse_file(data)
    except _native.FormatError as error:
        raise ModelError(f"the model cannot be saved as .tvx: {error}") from None
    write_file(path, data)
    return len(data)


def size(model: Model) -> int:
    """The size in bytes of the file that `save` would write. Raises ModelError as `save` does."""
    return len(encode(model))


def load(path: Path | str, max_memory: int | None = None) -> Model:
    """Read a model. Raises FileError where the file is missing, damaged or not a .tvx file.

    Also where it holds more than `max_memory` bytes; without it the limit is that of
    `tinyvox.open`.
    """
    content = parse(path, max_memory)
    try:
        return model_of(content)
    except (ModelError, ValueError) as error:
        text = describe(error) if isinstance(error, ValidationError) else error
        raise FileError(f"{path}: {text}") from error


def parse(path: Path | str, max_memory: int | None = None) -> Mapping[str, Any]:
    """The records of a file, as the native parser gives them. Raises FileError."""
    try:
        return _native.read_file(path, max_memory or 0)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except _native.FormatError as error:
        raise FileError(f"{path}: {error}") from None

"""Save and load a `.tvlm` file.

The native reader checks every file before it is used, and what is about to be saved, so that no
file is written that cannot be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox import _native
from tinyvox.errors import FileError, ModelError
from tinyvox.formats.tvlm.read import metadata_of, model_of, sections
from tinyvox.formats.tvlm.write import encode
from tinyvox.lm import NGrams
from tinyvox.storage import write_file


@dataclass(frozen=True)
class LanguageModelFile:
    """What a file holds: the model, what its writer said of it, and the bytes of each section."""

    model: NGrams
    metadata: Mapping[str, Any]
    section_bytes: Mapping[str, int]


def save_ngrams(model: NGrams, path: Path | str, metadata: Mapping[str, Any] | None = None) -> int:
    """Write a language model, and return the size of the file in bytes.

    Probabilities and back-offs are written as they are: those with few distinct values, as
    quantization leaves them, as codes. Words get new ids. The same model and metadata, a JSON
    object, always give the same bytes. Raises ModelError where the model exceeds the limits of the
    format, FileError where the file cannot be written.
    """
    data = encode(model, metadata)
    try:
        _native.check_ngrams(data)
    except _native.FormatError as error:
        raise ModelError(f"the language model cannot be saved as .tvlm: {error}") from None
    write_file(path, data)
    return len(data)


def size_of_ngrams(model: NGrams) -> int:
    """The bytes of the file of a language model without metadata."""
    return len(encode(model))


def load_ngrams(path: Path | str) -> LanguageModelFile:
    """Read a file. Raises FileError where it is missing, damaged or not a .tvlm file."""
    try:
        words = _native.NgramModel(path).words()
        parts = sections(Path(path).read_bytes())
        model = model_of(parts, [word.decode("utf-8", "surrogateescape") for word in words])
        metadata = metadata_of(parts)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except (_native.FormatError, ModelError, ValueError) as error:
        raise FileError(f"{path}: {error}") from None
    return LanguageModelFile(model, metadata, {tag: len(data) for tag, data in parts.items()})

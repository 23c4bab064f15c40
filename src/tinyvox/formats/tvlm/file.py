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
from tinyvox.formats.tvlm.write import (
    WEIGHTS_TAG,
    Weights,
    container,
    encode,
    encode_weights,
)
from tinyvox.lm import NGrams
from tinyvox.storage import write_file


@dataclass(frozen=True)
class LanguageModelFile:
    """What a file holds: the model, what its writer said of it, the bytes of each section, and
    alpha and beta where it has them."""

    model: NGrams
    metadata: Mapping[str, Any]
    section_bytes: Mapping[str, int]
    weights: Weights | None = None


def save_ngrams(
    model: NGrams,
    path: Path | str,
    metadata: Mapping[str, Any] | None = None,
    weights: Weights | None = None,
) -> int:
    """Write a language model, and return the size of the file in bytes.

    `weights` are the alpha and beta that a decoder takes where it is not given others.

    Probabilities and back-offs are written as they are: those with few distinct values, as
    quantization leaves them, as codes. Words get new ids. The same model and metadata, a JSON
    object, always give the same bytes. Raises ModelError where the model exceeds the limits of the
    format, FileError where the file cannot be written.
    """
    return _write(path, encode(model, metadata, weights))


def save_with_weights(source: Path | str, path: Path | str, weights: Weights) -> int:
    """Write a file again with other weights, alpha and beta, and return its size in bytes.

    All else stays as it is, to the byte; `path` may be `source`. Raises as `load_ngrams` and
    `save_ngrams` do.
    """
    parts = load_sections(source)
    metadata = parts.pop("META", None)
    parts[WEIGHTS_TAG] = encode_weights(weights)
    if metadata is not None:
        parts["META"] = metadata
    return _write(path, container(list(parts.items())))


def _write(path: Path | str, data: bytes) -> int:
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
    parts = load_sections(path)
    try:
        native = _native.NgramModel(path)
        words = [word.decode("utf-8", "surrogateescape") for word in native.words()]
        model, metadata = model_of(parts, words), metadata_of(parts)
    except (_native.FormatError, ModelError, ValueError) as error:
        raise FileError(f"{path}: {error}") from None
    sizes = {tag: len(data) for tag, data in parts.items()}
    return LanguageModelFile(model, metadata, sizes, native.weights)


def load_sections(path: Path | str) -> dict[str, bytes]:
    """The content of each section of a sound file by its tag. Raises FileError as `load_ngrams`."""
    try:
        data = Path(path).read_bytes()
        _native.check_ngrams(data)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except _native.FormatError as error:
        raise FileError(f"{path}: {error}") from None
    return sections(data)

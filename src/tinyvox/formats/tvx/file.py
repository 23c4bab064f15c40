"""The packed file, `.tvx`: a model in as few bytes as it takes. `docs/format.md` specifies it.

Writing is here; reading is the native parser's, which is the only door for untrusted bytes.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox import _native
from tinyvox.errors import FileError, ModelError
from tinyvox.formats.tvx.layer_schema import LAYER_SCHEMAS
from tinyvox.formats.tvx.read import model_of
from tinyvox.formats.tvx.write import encode
from tinyvox.model import Model
from tinyvox.storage import describe

__all__ = ["Row", "load", "save", "size", "sizes"]


@dataclass(frozen=True)
class Row:
    """Where bytes of a file went: a tensor, what a layer needs besides, or a part of the file.

    `kind` is dense, coded, vector, layer or section; tensors alone have bits a weight. Of coded
    ones, `codebook` is table, grid, trellis or binary, `code_bits` are those of a code before
    entropy coding, `coded_bits` those that the codes take a weight in the file, without codebook
    and scales.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bits_per_weight: float | None
    bytes: int
    codebook: str | None = None
    code_bits: int | None = None
    coded_bits: float | None = None


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
    _write(data, Path(path))
    return len(data)


def size(model: Model) -> int:
    """The bytes that the model's file would have. Raises ModelError as `save` does."""
    return len(encode(model))


def load(path: Path | str) -> Model:
    """Read a model. Raises FileError where the file is missing, damaged or not a .tvx file."""
    content = _parse(path)
    try:
        return model_of(content)
    except (ModelError, ValueError) as error:
        text = describe(error) if isinstance(error, ValidationError) else error
        raise FileError(f"{path}: {text}") from error


def sizes(path: Path | str) -> list[Row]:
    """Every byte of a file, by what it is for: the rows sum to the file's size.

    The factors of a product stand apart, as `name.left` and `name.right`; a right factor that
    products share stands with the first of them. Raises FileError.
    """
    content = _parse(path)
    rows = [row for node in content["nodes"] for row in _node_rows(node)]
    sections = [Row(name, "section", (), None, count) for name, count in content["overhead"]]
    return rows + sections


def _write(data: bytes, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _parse(path: Path | str) -> dict[str, Any]:
    try:
        return _native.parse_file(Path(path).read_bytes())
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except _native.FormatError as error:
        raise FileError(f"{path}: {error}") from None


def _node_rows(node: Mapping[str, Any]) -> Iterator[Row]:
    rows: list[Row] = []
    total = node["file_bytes"]
    for name, tensor in zip(LAYER_SCHEMAS[node["kind"]].tensors, node["tensors"], strict=True):
        total += tensor["file_bytes"]
        rows += _tensor_rows(f"{node['name']}.{name}", tensor)
    yield Row(node["name"], "layer", (), None, total - sum(row.bytes for row in rows))
    yield from rows


def _tensor_rows(name: str, tensor: Mapping[str, Any]) -> Iterator[Row]:
    if tensor["kind"] in ("product", "shared"):
        for side in ("left", "right"):
            if side in tensor:
                yield from _tensor_rows(f"{name}.{side}", tensor[side])
    elif tensor["kind"] != "absent":
        shape, count = tuple(tensor["shape"]), tensor["file_bytes"]
        size = math.prod(shape)
        coded: tuple[str, int, float] | tuple[()] = ()
        if tensor["kind"] == "coded":
            bits = (tensor["entries"] - 1).bit_length()
            coded = (tensor["codebook"], bits, 8 * tensor["code_bytes"] / size)
        yield Row(name, tensor["kind"], shape, 8 * count / size, count, *coded)

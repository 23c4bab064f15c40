"""What the bytes of a `.tvx` file are used for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvox.formats.tvx.file import parse
from tinyvox.formats.tvx.layer_schema import LAYER_SCHEMAS


@dataclass(frozen=True)
class Row:
    """The bytes of one tensor, of one layer's other fields, or of one section of the file.

    `kind` is dense, coded, vector, layer or section. Only tensors have a shape and bits per weight.
    Only coded ones have the last three: `codebook` is table, grid, trellis or binary, `code_bits`
    is the size of a code before entropy coding, and `coded_bits` is the average size of a code in
    the file, without codebook and scales.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bits_per_weight: float | None
    bytes: int
    codebook: str | None = None
    code_bits: int | None = None
    coded_bits: float | None = None


def sizes(path: Path | str) -> list[Row]:
    """Every byte of a file by its use. The rows add up to the file's size.

    The two factors of a product are two rows, `name.left` and `name.right`. A right factor that
    several products share is a row of the first of them only. Raises FileError.
    """
    content = parse(path)
    rows = [row for node in content["nodes"] for row in _node_rows(node)]
    sections = [Row(name, "section", (), None, count) for name, count in content["overhead"]]
    return rows + sections


def _node_rows(node: Mapping[str, Any]) -> Iterator[Row]:
    """A layer's row, then those of its tensors."""
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

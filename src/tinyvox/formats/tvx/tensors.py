"""The records of tensors: vectors, dense matrices, quantized matrices, and products of matrices.

A product may share its right factor with a product before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinyvox import _native
from tinyvox.errors import ModelError
from tinyvox.formats.tvx.fields import floats, pack, varint
from tinyvox.model import Binary, Codebook, Coded, Dense, Grid, Matrix, Product, Table

_VECTOR, _DENSE, _CODED, _PRODUCT, _SHARED = 1, 2, 3, 4, 5
_HALF_VALUES, _HALF_LEVELS, _SCALE_A_GROUP, _MODEL_A_GROUP, _FINE_INPUT = 8, 16, 32, 64, 128
_QUANTIZERS = ("table", "grid", "trellis", "binary")
_MAX_CODES_A_BYTE = 4096
"""A limit of the format: it bounds the memory that a small hostile file can ask for."""


def tensor_record(value: Matrix | Tensor, factors: dict[Matrix, int]) -> bytes:
    """The record of a layer's tensor. `factors` numbers the right factors written so far."""
    if isinstance(value, Product):
        if value.right in factors:
            return bytes([_SHARED]) + _record(value.left) + varint(factors[value.right])
        factors[value.right] = len(factors)
    return _record(value)


def _record(value: Matrix | Tensor) -> bytes:
    if isinstance(value, Product):
        return bytes([_PRODUCT]) + _record(value.left) + _record(value.right)
    if isinstance(value, Coded):
        return _coded(value)
    values = value.values if isinstance(value, Dense) else value
    kind = _DENSE if isinstance(value, Dense) else _VECTOR
    half, data = floats(values)
    return b"".join([bytes([kind | half * _HALF_VALUES]), *map(varint, values.shape), data])


def _coded(matrix: Coded) -> bytes:
    matrix = _as_stored(matrix)
    book, group, groups = matrix.codebook, matrix.row_group, matrix.row_groups
    levels = book.centroids if isinstance(book, Table) else getattr(book, "alphas", torch.empty(0))
    half_levels, level_data = floats(levels)
    first_rows = _first_rows(matrix)
    by_group = matrix.shares_scale
    half_scale, scale_data = floats(matrix.scale[first_rows] if by_group else matrix.scale)
    model_a_group, codes = _codes(matrix)
    head = _CODED | half_scale * _HALF_VALUES | (half_levels and level_data != b"") * _HALF_LEVELS
    head |= by_group * _SCALE_A_GROUP | model_a_group * _MODEL_A_GROUP
    head |= matrix.fine_input * _FINE_INPUT
    index = b"" if group is None or groups == 1 else code_block(group[:, None], groups)[0]
    shape = b"".join(map(varint, matrix.shape))
    kind = varint(_QUANTIZERS.index(_kind_of(book)))
    extra = _codebook_extra(book, matrix, first_rows if by_group else None)
    return b"".join(
        [bytes([head]), shape, kind, varint(groups), index, extra, level_data, scale_data, codes]
    )


def _as_stored(matrix: Coded) -> Coded:
    """The matrix, as a grid instead of a trellis where its codes cannot be entropy-coded."""
    book = matrix.codebook
    if isinstance(book, Grid) and book.trellis and not _fits_rans(matrix):
        return matrix.with_codes(matrix.codes, without_trellis=True)
    return matrix


def _kind_of(book: Codebook) -> str:
    if isinstance(book, Grid):
        return "trellis" if book.trellis else "grid"
    return "table" if isinstance(book, Table) else "binary"


def _first_rows(matrix: Coded) -> Tensor:
    """The first row of each group, int64 [groups]."""
    rows = matrix.shape[0]
    first = torch.full((matrix.row_groups,), rows)
    return first.scatter_reduce(0, matrix.row_group_index, torch.arange(rows), "amin")


def _codebook_extra(book: Codebook, matrix: Coded, first_rows: Tensor | None) -> bytes:
    """The number of entries, and the fields of a codebook besides its levels."""
    entries = varint(book.entries)
    if isinstance(book, Binary):
        return entries
    if isinstance(book, Table):
        return entries + varint(1 if book.centroids.ndim == 1 else matrix.row_groups)
    zero = book.zero
    if zero.numel() > 1 and first_rows is not None:
        zero = zero[first_rows]
        if not torch.equal(zero[matrix.row_group_index], book.zero):
            raise ModelError(
                "rows of a group have one scale and several zeros, expected one zero for each scale"
            )
    return entries + varint(zero.numel()) + bytes(zero.tolist())


def _codes(matrix: Coded) -> tuple[bool, bytes]:
    """The codes in their shortest form, and whether each group has a model of its own there."""
    book = matrix.codebook
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    whole = code_block(matrix.codes, book.entries, zero=zero)
    if matrix.row_groups == 1:
        return False, whole[0]
    grouped = code_block(matrix.codes, book.entries, matrix.row_group, matrix.row_groups, zero)
    return min((False, whole[0]), (True, grouped[0]), key=lambda form: len(form[1]))


def code_block(
    codes: Tensor,
    entries: int,
    group: Tensor | None = None,
    groups: int = 1,
    zero: int = -1,
) -> tuple[bytes, bool]:
    """Codes [rows, columns] with their length before them, and whether they are entropy-coded.

    `zero` is the code of the value 0 where the codes follow a trellis, else -1.
    """
    array = np.ascontiguousarray(codes.cpu().numpy())
    index = np.empty(0, np.uint8) if group is None else np.ascontiguousarray(group.cpu().numpy())
    payload = _native.rans_encode(array, entries, index, groups, zero)
    coded = varint(len(payload)) + payload
    bits = (entries - 1).bit_length()
    shorter = zero >= 0 or len(coded) <= (array.size * bits + 7) // 8
    if shorter and array.size <= _MAX_CODES_A_BYTE * len(payload):
        return coded, True
    return b"\0" + pack(array.ravel(), bits), False


def _fits_rans(matrix: Coded) -> bool:
    """Whether the codes can be entropy-coded: a byte must not stand for too many of them."""
    book = matrix.codebook
    assert isinstance(book, Grid)
    return code_block(matrix.codes, book.entries, zero=int(book.zero[0]))[1]


def tensor_of(record: Mapping[str, Any], factors: list[Matrix]) -> Matrix | Tensor | None:
    """The tensor of a record. `factors` are the right factors read so far."""
    if record["kind"] == "shared":
        return Product(_matrix_of(record["left"]), factors[record["shares_with"]])
    tensor = _tensor_of(record)
    if isinstance(tensor, Product):
        factors.append(tensor.right)
    return tensor


def _matrix_of(record: Mapping[str, Any]) -> Matrix:
    matrix = _tensor_of(record)
    assert isinstance(matrix, Dense | Coded | Product)
    return matrix


def _tensor_of(record: Mapping[str, Any]) -> Matrix | Tensor | None:
    match record["kind"]:
        case "vector":
            return torch.from_numpy(record["values"])
        case "dense":
            return Dense(torch.from_numpy(record["values"]))
        case "coded":
            codes, scale = (torch.from_numpy(record[name]) for name in ("codes", "scale"))
            group = torch.from_numpy(record["group"]) if len(record["group"]) else None
            return Coded(codes, _codebook(record), scale, group, record["fine_input"])
        case "product":
            return Product(_matrix_of(record["left"]), _matrix_of(record["right"]))
    return None


def _codebook(record: Mapping[str, Any]) -> Codebook:
    levels, entries = torch.from_numpy(record["levels"]), record["entries"]
    kind = record["codebook"]
    if kind == "table":
        return Table(levels if len(levels) == entries else levels.view(-1, entries))
    if kind == "binary":
        return Binary(levels.view(record["shape"][0], -1))
    return Grid(entries, torch.from_numpy(record["zero"]).long(), kind == "trellis")

"""The packed file, `.tvx`: a model in as few bytes as it takes. `docs/format.md` specifies it.

Writing is here; reading is the native parser's, which is the only door for untrusted bytes.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tinyvox import _native, layers
from tinyvox.card import FeatureKind, Features, SpeechCard, describe
from tinyvox.errors import FileError, ModelError
from tinyvox.layers import Cell, Layer
from tinyvox.matrix import Binary, Codebook, Coded, Dense, Grid, Matrix, Product, Table
from tinyvox.model import INPUT, Model, Node

MAGIC = b"\x89TVX\r\n\x1a\n"
VERSION = 2

_VECTOR, _DENSE, _CODED, _PRODUCT = 1, 2, 3, 4
_HALF_VALUES, _HALF_LEVELS, _SCALE_A_GROUP, _MODEL_A_GROUP = 8, 16, 32, 64
_CODEBOOKS = ("table", "grid", "trellis", "binary")
_LOG_PROBABILITIES, _NORMALISED = 1, 2
_MAX_CODES_A_BYTE = 4096
_FEATURE_KINDS: tuple[FeatureKind, ...] = ("log_mel", "mfcc", "deepspeech_mfcc")


@dataclass(frozen=True)
class Row:
    """Where bytes of a file went: a tensor, what a layer needs besides, or a part of the file.

    `kind` is dense, coded, vector, layer or section; tensors alone have bits a weight. Of coded
    ones, `code_bits` are those of a code before entropy coding, `coded_bits` those that the codes
    take a weight in the file, without codebook and scales.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bits_per_weight: float | None
    bytes: int
    code_bits: int | None = None
    coded_bits: float | None = None


def save(model: Model, path: Path | str) -> int:
    """Write a model, and return the size of the file in bytes.

    The same model always gives the same bytes. The file appears whole or not at all. Raises
    ModelError where the model exceeds the limits of the format, FileError where the file cannot be
    written.
    """
    data = _encode(model)
    try:
        _native.parse_file(data)
    except _native.FormatError as error:
        raise ModelError(f"the model cannot be saved as .tvx: {error}") from None
    _write(data, Path(path))
    return len(data)


def load(path: Path | str) -> Model:
    """Read a model. Raises FileError where the file is missing, damaged or not a .tvx file."""
    content = _parse(path)
    try:
        return _model(content)
    except (ModelError, ValueError) as error:
        text = describe(error) if isinstance(error, ValidationError) else error
        raise FileError(f"{path}: {text}") from error


def sizes(path: Path | str) -> list[Row]:
    """Every byte of a file, by what it is for: the rows sum to the file's size.

    The factors of a product stand apart, as `name.left` and `name.right`. Raises FileError.
    """
    content = _parse(path)
    rows = [row for node in content["nodes"] for row in _node_rows(node)]
    sections = [Row(name, "section", (), None, count) for name, count in content["overhead"]]
    return rows + sections


# Layers: which field of which class goes where. The order of the classes is that of LayerKind in
# native/src/file.h, the order of the fields that of its Node.


@dataclass(frozen=True)
class _Form:
    layer: type[Layer]
    tensors: tuple[str, ...] = ()
    ints: Mapping[str, int] = field(default_factory=dict)
    """How many numbers each field holds; more than one are a tuple."""
    floats: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """What the number in the field `kind` stands for."""


_CELL = ("weight_ih", "weight_hh", "bias", "bias_hn")
_CELLS = tuple(f"{side}.{tensor}" for side in ("forward", "backward") for tensor in _CELL)
_FORMS = (
    _Form(layers.Linear, ("weight", "bias")),
    _Form(layers.Recurrent, _CELLS, {"kind": 1}, kinds=tuple(layers.GATES)),
    _Form(
        layers.Conv1d,
        ("weight", "bias"),
        {"kernel": 1, "stride": 1, "dilation": 1, "padding": 2, "groups": 1},
    ),
    _Form(layers.Conv2d, ("weight", "bias"), {"kernel": 2, "stride": 2, "padding": 4}),
    _Form(layers.BatchNorm, ("mean", "variance", "weight", "bias"), floats=("eps",)),
    _Form(layers.LayerNorm, ("weight", "bias"), floats=("eps",)),
    _Form(layers.Activation, ("limits",), {"kind": 1}, ("limit",), layers.ACTIVATIONS),
    _Form(layers.ContextWindow, (), {"left": 1, "right": 1}),
    _Form(layers.FrameStacking, (), {"count": 1, "stride": 1}),
    _Form(layers.Subsample, (), {"factor": 1}),
    _Form(layers.Unflatten, (), {"channels": 1}),
    _Form(layers.Flatten),
    _Form(layers.Add),
    _Form(layers.Concat),
    _Form(layers.LogSoftmax),
)
_KIND_OF = {form.layer: kind for kind, form in enumerate(_FORMS)}


# Writing.


def _encode(model: Model) -> bytes:
    sections = [(b"MODL", _model_section(model))]
    if model.card is not None:
        sections.append((b"SPCH", _speech_section(model.card)))
    if model.provenance:
        sections.append((b"META", _metadata(model.provenance)))
    offset = 24 + 24 * len(sections) + 4
    table = b""
    for tag, section in sections:
        table += struct.pack("<4sIQQ", tag, zlib.crc32(section), offset, len(section))
        offset += len(section)
    head = struct.pack("<8sIIQ", MAGIC, VERSION, len(sections), offset) + table
    return b"".join([head, struct.pack("<I", zlib.crc32(head)), *(data for _, data in sections)])


def _metadata(provenance: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(
            dict(provenance),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )
        return text.encode()
    except (TypeError, ValueError) as error:
        raise ModelError(f"the provenance is not JSON: {error}; use plain values") from None


def _model_section(model: Model) -> bytes:
    indices = {INPUT: 0} | {node.name: i + 1 for i, node in enumerate(model.nodes)}
    nodes = (_node(node, indices) for node in model.nodes)
    return b"".join([_varint(model.input_size), _varint(len(model.nodes)), *nodes])


def _node(node: Node, indices: Mapping[str, int]) -> bytes:
    layer = node.layer
    kind = _KIND_OF[type(layer)]
    form = _FORMS[kind]
    parts = [_text(node.name), _varint(kind)]
    if layer.arity is None:
        parts.append(_varint(len(node.inputs)))
    parts += [_varint(indices[name]) for name in node.inputs]
    for name in form.ints:
        value = getattr(layer, name)
        numbers = [form.kinds.index(value)] if name == "kind" else np.ravel(value).tolist()
        try:
            parts += [_varint(number) for number in numbers]
        except ModelError as error:
            raise ModelError(f"layer {node.name!r}: {name}: {error}") from None
    parts += [struct.pack("<f", getattr(layer, name) or 0.0) for name in form.floats]
    tensors: dict[str, Matrix | Tensor] = {**layer.matrices(), **layer.vectors()}
    parts += [_tensor(tensors[name]) if name in tensors else b"\0" for name in form.tensors]
    return b"".join(parts)


def _tensor(value: Matrix | Tensor) -> bytes:
    if isinstance(value, Product):
        return bytes([_PRODUCT]) + _tensor(value.left) + _tensor(value.right)
    if isinstance(value, Coded):
        return _coded(value)
    values = value.values if isinstance(value, Dense) else value
    kind = _DENSE if isinstance(value, Dense) else _VECTOR
    half, data = _floats(values)
    return b"".join([bytes([kind | half * _HALF_VALUES]), *map(_varint, values.shape), data])


def _coded(matrix: Coded) -> bytes:
    matrix = _as_stored(matrix)
    book, group, groups = matrix.codebook, matrix.group, matrix.groups
    levels = book.centroids if isinstance(book, Table) else getattr(book, "alphas", torch.empty(0))
    half_levels, level_data = _floats(levels)
    first_rows = _first_rows(matrix)
    by_group = bool((matrix.scale == matrix.scale[first_rows][_group_index(matrix)]).all())
    half_scale, scale_data = _floats(matrix.scale[first_rows] if by_group else matrix.scale)
    model_a_group, codes = _codes(matrix)
    head = _CODED | half_scale * _HALF_VALUES | (half_levels and level_data != b"") * _HALF_LEVELS
    head |= by_group * _SCALE_A_GROUP | model_a_group * _MODEL_A_GROUP
    index = b"" if group is None or groups == 1 else _code_bytes(group[:, None], groups)[0]
    shape = b"".join(map(_varint, matrix.shape))
    kind = _varint(_CODEBOOKS.index(_kind_of(book)))
    extra = _codebook_extra(book, matrix, first_rows if by_group else None)
    return b"".join(
        [bytes([head]), shape, kind, _varint(groups), index, extra, level_data, scale_data, codes]
    )


def _as_stored(matrix: Coded) -> Coded:
    """Groups that nothing depends on are left out; a trellis too short to code is let go."""
    book = matrix.codebook
    if isinstance(book, Grid) and book.trellis and not _fits_rans(matrix):
        return matrix.with_codes(matrix.codes, untied=True)
    return matrix


def _kind_of(book: Codebook) -> str:
    if isinstance(book, Grid):
        return "trellis" if book.trellis else "grid"
    return "table" if isinstance(book, Table) else "binary"


def _group_index(matrix: Coded) -> Tensor:
    rows = matrix.shape[0]
    return torch.zeros(rows, dtype=torch.long) if matrix.group is None else matrix.group.long()


def _first_rows(matrix: Coded) -> Tensor:
    """The first row of each group, int64 [groups]."""
    index, rows = _group_index(matrix), matrix.shape[0]
    first = torch.full((matrix.groups,), rows).scatter_reduce(
        0, index, torch.arange(rows), "amin", include_self=True
    )
    return first


def _codebook_extra(book: Codebook, matrix: Coded, first_rows: Tensor | None) -> bytes:
    """The number of entries, and what a codebook holds besides levels."""
    entries = _varint(book.entries)
    if isinstance(book, Binary):
        return entries
    if isinstance(book, Table):
        return entries + _varint(1 if book.centroids.ndim == 1 else matrix.groups)
    zero = book.zero
    if zero.numel() > 1 and first_rows is not None:
        zero = zero[first_rows]
        if not torch.equal(zero[_group_index(matrix)], book.zero):
            raise ModelError("rows of a group have one scale and several zeros")
    return entries + _varint(zero.numel()) + bytes(zero.tolist())


def _codes(matrix: Coded) -> tuple[bool, bytes]:
    """Whether each group has a model of its own, and the codes: the shortest of the forms."""
    book = matrix.codebook
    zero = int(book.zero[0]) if isinstance(book, Grid) and book.trellis else -1
    whole = _code_bytes(matrix.codes, book.entries, zero=zero)
    if matrix.groups == 1:
        return False, whole[0]
    grouped = _code_bytes(matrix.codes, book.entries, matrix.group, matrix.groups, zero)
    return min((False, whole[0]), (True, grouped[0]), key=lambda form: len(form[1]))


def _code_bytes(
    codes: Tensor,
    entries: int,
    group: Tensor | None = None,
    groups: int = 1,
    zero: int = -1,
) -> tuple[bytes, bool]:
    """Codes [rows, columns] with their length before them, and whether they are entropy-coded."""
    array = np.ascontiguousarray(codes.cpu().numpy())
    index = np.empty(0, np.uint8) if group is None else np.ascontiguousarray(group.cpu().numpy())
    payload = _native.rans_encode(array, entries, index, groups, zero)
    coded = _varint(len(payload)) + payload
    bits = (entries - 1).bit_length()
    shorter = zero >= 0 or len(coded) <= (array.size * bits + 7) // 8
    if shorter and array.size <= _MAX_CODES_A_BYTE * len(payload):
        return coded, True
    return b"\0" + _pack(array.ravel(), bits), False


def _fits_rans(matrix: Coded) -> bool:
    """Whether the entropy coder takes the codes, which must not shrink without bounds."""
    book = matrix.codebook
    assert isinstance(book, Grid)
    return _code_bytes(matrix.codes, book.entries, zero=int(book.zero[0]))[1]


def _pack(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Codes of `bits` bits after each other, the lowest bit first."""
    unpacked = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(unpacked, bitorder="little").tobytes()


def _floats(values: Tensor) -> tuple[bool, bytes]:
    """Whether float16 holds the values exactly, and their bytes: float16 if so, else float32."""
    single = np.ascontiguousarray(values.detach().cpu().numpy(), dtype="<f4")
    with np.errstate(over="ignore"):
        half = single.astype("<f2")
    exact = bool((half.astype("<f4") == single).all())
    return exact, (half if exact else single).tobytes()


def _speech_section(card: SpeechCard) -> bytes:
    features = card.features
    flags = _LOG_PROBABILITIES * card.log_probabilities | _NORMALISED * bool(features.mean)
    hertz = (features.window_ms, features.hop_ms, features.low_hz, features.high_hz)
    parts = [
        bytes([flags, _FEATURE_KINDS.index(features.kind)]),
        *map(_varint, (features.sample_rate, features.bands, features.coefficients)),
        *(struct.pack("<f", value) for value in (*hertz, *features.mean, *features.deviation)),
        *map(_varint, (len(card.tokens), card.blank)),
        *map(_text, card.tokens),
    ]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the high bit where more follow."""
    if not 0 <= value < 1 << 32:
        raise ModelError(f"{value} does not fit the .tvx format, expected 0 to 4294967295")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data


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


# Reading.


def _parse(path: Path | str) -> dict[str, Any]:
    try:
        return _native.parse_file(Path(path).read_bytes())
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except _native.FormatError as error:
        raise FileError(f"{path}: {error}") from None


def _model(content: Mapping[str, Any]) -> Model:
    names = [INPUT, *(record["name"] for record in content["nodes"])]
    nodes = tuple(
        Node(record["name"], _layer(record), tuple(names[i] for i in record["inputs"]))
        for record in content["nodes"]
    )
    card = _card(content["speech"]) if content["speech"] else None
    return Model(content["input_size"], nodes, card, _provenance(content["metadata"]))


def _provenance(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"holds {constant}")

    try:
        facts = json.loads(text or "{}", parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"metadata is JSON of type {type(facts).__name__}, expected an object")
    return facts


def _layer(record: Mapping[str, Any]) -> Layer:
    form = _FORMS[record["kind"]]
    numbers = iter(record["ints"])
    fields: dict[str, Any] = {}
    for name, count in form.ints.items():
        found = tuple(next(numbers) for _ in range(count))
        fields[name] = found if count > 1 else found[0]
    if form.kinds:
        fields["kind"] = form.kinds[fields["kind"]]
    fields |= {name: _decimal(x) for name, x in zip(form.floats, record["floats"], strict=True)}
    if fields.get("limit") == 0:
        fields["limit"] = None
    tensors = map(_from_record, record["tensors"])
    return form.layer(**fields, **_nested(dict(zip(form.tensors, tensors, strict=True))))


def _nested(tensors: Mapping[str, Matrix | Tensor | None]) -> dict[str, Any]:
    """Fields of a layer; those called `cell.tensor` make a Cell, or None where all are absent."""
    cells: dict[str, dict[str, Any]] = {}
    fields: dict[str, Any] = {}
    for name, tensor in tensors.items():
        cell, dot, inner = name.partition(".")
        if dot:
            cells.setdefault(cell, {})[inner] = tensor
        else:
            fields[name] = tensor
    for cell, inner_fields in cells.items():
        fields[cell] = None if inner_fields["weight_hh"] is None else Cell(**inner_fields)
    return fields


def _from_record(record: Mapping[str, Any]) -> Matrix | Tensor | None:
    match record["kind"]:
        case "vector":
            return torch.from_numpy(record["values"])
        case "dense":
            return Dense(torch.from_numpy(record["values"]))
        case "coded":
            codes, scale = (torch.from_numpy(record[name]) for name in ("codes", "scale"))
            group = torch.from_numpy(record["group"]) if len(record["group"]) else None
            return Coded(codes, _codebook(record), scale, group)
        case "product":
            left, right = _from_record(record["left"]), _from_record(record["right"])
            assert isinstance(left, Dense | Coded | Product)
            assert isinstance(right, Dense | Coded | Product)
            return Product(left, right)
    return None


def _codebook(record: Mapping[str, Any]) -> Codebook:
    levels, entries = torch.from_numpy(record["levels"]), record["entries"]
    kind = record["codebook"]
    if kind == "table":
        return Table(levels if len(levels) == entries else levels.view(-1, entries))
    if kind == "binary":
        return Binary(levels.view(record["shape"][0], -1))
    return Grid(entries, torch.from_numpy(record["zero"]).long(), kind == "trellis")


def _card(speech: Mapping[str, Any]) -> SpeechCard:
    settings = dict(speech["features"])
    for name in ("window_ms", "hop_ms", "low_hz", "high_hz"):
        settings[name] = _decimal(settings[name])
    for name in ("mean", "deviation"):
        settings[name] = tuple(map(_decimal, settings[name]))
    facts = {name: speech[name] for name in ("blank", "log_probabilities")}
    return SpeechCard(features=Features(**settings), tokens=tuple(speech["tokens"]), **facts)


def _decimal(value: float) -> float:
    """The shortest decimal number of this float32: 1e-5 is read back as it was written."""
    return float(str(np.float32(value)))


def _node_rows(node: Mapping[str, Any]) -> Iterator[Row]:
    rows: list[Row] = []
    total = node["file_bytes"]
    for name, tensor in zip(_FORMS[node["kind"]].tensors, node["tensors"], strict=True):
        total += tensor["file_bytes"]
        rows += _tensor_rows(f"{node['name']}.{name}", tensor)
    yield Row(node["name"], "layer", (), None, total - sum(row.bytes for row in rows))
    yield from rows


def _tensor_rows(name: str, tensor: Mapping[str, Any]) -> Iterator[Row]:
    if tensor["kind"] == "product":
        yield from _tensor_rows(f"{name}.left", tensor["left"])
        yield from _tensor_rows(f"{name}.right", tensor["right"])
    elif tensor["kind"] != "absent":
        shape, count = tuple(tensor["shape"]), tensor["file_bytes"]
        size = math.prod(shape)
        coded: tuple[int, float] | tuple[()] = ()
        if tensor["kind"] == "coded":
            coded = ((tensor["entries"] - 1).bit_length(), 8 * tensor["code_bytes"] / size)
        yield Row(name, tensor["kind"], shape, 8 * count / size, count, *coded)

"""A model as the bytes of a file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tinyvox.errors import ModelError
from tinyvox.formats.tvx.fields import text, varint
from tinyvox.formats.tvx.layer_schema import (
    FEATURE_KINDS,
    FLOORED,
    GATING,
    KIND_OF,
    LAYER_SCHEMAS,
    LIST,
    LOG_PROBABILITIES,
    NORMALIZED,
    OLDEST,
    REPEAT,
    SHARING,
    SIGNALS,
    TIED,
    LayerSchema,
)
from tinyvox.formats.tvx.tensors import tensor_record
from tinyvox.model import INPUT, Matrix, Model, Node, SpeechCard, has_fine_input

MAGIC = b"\x89TVX\r\n\x1a\n"
"""The first bytes of every file."""


def encode(model: Model) -> bytes:
    """The bytes of a model's file. Raises ModelError where the format cannot hold the model."""
    version = _version(model)
    sections = [(b"MODL", _model_section(model, version))]
    if model.card is not None:
        sections.append((b"SPCH", _speech_section(model.card)))
    if model.provenance:
        sections.append((b"META", _metadata(model.provenance)))
    offset = 24 + 24 * len(sections) + 4
    table = b""
    for tag, section in sections:
        table += struct.pack("<4sIQQ", tag, zlib.crc32(section), offset, len(section))
        offset += len(section)
    head = struct.pack("<8sIIQ", MAGIC, version, len(sections), offset) + table
    return b"".join([head, struct.pack("<I", zlib.crc32(head)), *(data for _, data in sections)])


def _version(model: Model) -> int:
    """The lowest version that can hold the model."""
    layers = [node.layer for node in model.nodes]
    needed = [LAYER_SCHEMAS[KIND_OF[type(layer)]].version_of(layer) for layer in layers]
    repeats = any(len(model.uses(node.name)) > 1 for node in model.nodes)
    floored = model.card is not None and model.card.features.noise_floor_db is not None
    needed += [SHARING] if model.shared_factors() else []
    needed += [SIGNALS] if model.ties() else []
    needed += [SIGNALS] if any(has_fine_input(matrix) for _, matrix in model.matrices()) else []
    return max([OLDEST, *needed, GATING if repeats or floored else OLDEST])


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


def _model_section(model: Model, version: int) -> bytes:
    indices = {INPUT: 0} | {node.name: i + 1 for i, node in enumerate(model.nodes)}
    tables = {linear: table for table, linear in model.ties().items()}
    factors: dict[Matrix, int] = {}
    nodes = []
    for node in model.nodes:
        first = model.uses(node.name)[0]
        if node.name != first:
            numbers = (REPEAT, indices[first] - 1, indices[node.inputs[0]])
            nodes.append(text(node.name) + b"".join(map(varint, numbers)))
        elif node.name in tables:
            nodes.append(_tied(node, indices[tables[node.name]] - 1, indices))
        else:
            nodes.append(_node(node, indices, factors, version))
    return b"".join([varint(model.input_size), varint(len(model.nodes)), *nodes])


def _tied(node: Node, table: int, indices: Mapping[str, int]) -> bytes:
    """A linear layer whose weight is that of an embedding, the layer of this number."""
    bias = node.layer.vectors().get("bias")
    numbers = (TIED, table, indices[node.inputs[0]])
    record = b"\0" if bias is None else tensor_record(bias, {})
    return text(node.name) + b"".join(map(varint, numbers)) + record


def _node(
    node: Node, indices: Mapping[str, int], factors: dict[Matrix, int], version: int
) -> bytes:
    layer = node.layer
    kind = KIND_OF[type(layer)]
    schema = LAYER_SCHEMAS[kind]
    parts = [text(node.name), varint(kind)]
    if layer.arity is None:
        parts.append(varint(len(node.inputs)))
    parts += [varint(indices[name]) for name in node.inputs]
    for name in schema.ints:
        if schema.since.get(name, OLDEST) > version:
            continue
        try:
            parts += [varint(number) for number in _numbers(schema, name, getattr(layer, name))]
        except ModelError as error:
            raise ModelError(f"layer {node.name!r}: {name}: {error}") from None
    floats = [name for name in schema.floats if schema.since.get(name, OLDEST) <= version]
    parts += [struct.pack("<f", getattr(layer, name) or 0.0) for name in floats]
    tensors: dict[str, Matrix | Tensor] = {**layer.matrices(), **layer.vectors()}
    for name in schema.tensors:
        if schema.since.get(name, OLDEST) > version:
            continue
        try:
            parts.append(tensor_record(tensors[name], factors) if name in tensors else b"\0")
        except ModelError as error:
            raise ModelError(f"layer {node.name!r}: {name}: {error}") from None
    return b"".join(parts)


def _numbers(schema: LayerSchema, name: str, value: Any) -> list[int]:
    """What the record has for a setting."""
    if name in schema.values:
        return [schema.values[name].index(value)]
    if schema.ints[name] == LIST:
        return [len(value), *(place + 1 for place in value)]
    numbers: list[int] = np.ravel(value).tolist()
    return numbers


def _speech_section(card: SpeechCard) -> bytes:
    features = card.features
    floor = features.noise_floor_db
    flags = (
        LOG_PROBABILITIES * card.log_probabilities
        | NORMALIZED * bool(features.mean)
        | FLOORED * (floor is not None)
    )
    numbers = [features.window_ms, features.hop_ms, features.low_hz, features.high_hz]
    numbers += [] if floor is None else [floor]
    parts = [
        bytes([flags, FEATURE_KINDS.index(features.kind)]),
        *map(varint, (features.sample_rate, features.bands, features.coefficients)),
        *(struct.pack("<f", value) for value in (*numbers, *features.mean, *features.deviation)),
        *map(varint, (len(card.tokens), card.blank)),
        *map(text, card.tokens),
    ]
    return b"".join(parts)

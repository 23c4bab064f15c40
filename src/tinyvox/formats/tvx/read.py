"""A model from the records that the native parser gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tinyvox.formats.tvx.fields import decimal
from tinyvox.formats.tvx.layer_schema import LAYER_SCHEMAS, LIST
from tinyvox.formats.tvx.tensors import tensor_of
from tinyvox.model import INPUT, Cell, Features, Layer, Matrix, Model, Node, SpeechCard


def model_of(content: Mapping[str, Any]) -> Model:
    """The model in a parsed file.

    Raises ModelError or ValueError where its parts do not fit together; pydantic's ValidationError
    is a ValueError.
    """
    names = [INPUT, *(record["name"] for record in content["nodes"])]
    factors: list[Matrix] = []
    nodes: list[Node] = []
    for record in content["nodes"]:
        first = record["repeats"]
        layer = _layer(record, factors) if first is None else nodes[first].layer
        if record["tied"] is not None:
            layer = layer.with_tensors(nodes[record["tied"]].layer.matrices())
        nodes.append(Node(record["name"], layer, tuple(names[i] for i in record["inputs"])))
    card = _card(content["speech"]) if content["speech"] else None
    return Model(content["input_size"], tuple(nodes), card, _provenance(content["metadata"]))


def _provenance(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"holds {constant}, expected finite numbers")

    try:
        facts = json.loads(text or "{}", parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"metadata is JSON of type {type(facts).__name__}, expected an object")
    return facts


def _layer(record: Mapping[str, Any], factors: list[Matrix]) -> Layer:
    schema = LAYER_SCHEMAS[record["kind"]]
    numbers = iter(record["ints"])
    fields: dict[str, Any] = {}
    for name, count in schema.ints.items():
        if count == LIST:
            fields[name] = tuple(number - 1 for number in numbers)
            continue
        found = tuple(next(numbers) for _ in range(count))
        fields[name] = found if count > 1 else found[0]
    fields |= {name: known[fields[name]] for name, known in schema.values.items()}
    fields |= {name: decimal(x) for name, x in zip(schema.floats, record["floats"], strict=True)}
    if fields.get("limit") == 0:
        fields["limit"] = None
    tensors = [tensor_of(each, factors) for each in record["tensors"]]
    return schema.layer(**fields, **_nested(dict(zip(schema.tensors, tensors, strict=True))))


def _nested(tensors: Mapping[str, Matrix | Tensor | None]) -> dict[str, Any]:
    """The tensors as fields of a layer.

    Those named `cell.tensor` make up a Cell, or None where the cell is absent.
    """
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


def _card(speech: Mapping[str, Any]) -> SpeechCard:
    settings = dict(speech["features"])
    for name in ("window_ms", "hop_ms", "low_hz", "high_hz"):
        settings[name] = decimal(settings[name])
    if settings["noise_floor_db"] is not None:
        settings["noise_floor_db"] = decimal(settings["noise_floor_db"])
    for name in ("mean", "deviation"):
        settings[name] = tuple(map(decimal, settings[name]))
    facts = {name: speech[name] for name in ("blank", "log_probabilities")}
    return SpeechCard(features=Features(**settings), tokens=tuple(speech["tokens"]), **facts)

"""ONNX files: parsed, and their tensors read, from the file itself or from files beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.recognition import recognized

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

_DEEPEST = 32
"""Graphs inside one another."""
_FLOATS = frozenset(
    ["FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2"]
)
"""Types for which float32 is taken."""
_BYTES = {"INT8": torch.int8, "UINT8": torch.uint8, "INT4": torch.int8, "UINT4": torch.uint8}
"""Types of quantized weights, which are kept small."""
_INTEGERS = frozenset(["INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64"])
"""Types for which int64 is taken."""

_TEXT, _MESSAGE = 9, 11
"""Numbers of the types of fields in protocol buffers: strings, messages."""


def read_model(path: Path) -> ModelProto:
    """The model in an ONNX file, all of its tensors in it.

    Raises ImporterError, with the file's name, where it is no such file or damaged, where a tensor
    lies in a file that is missing or outside the model's folder, or where `onnx` is not installed.
    """
    model = _parsed(path)
    try:
        for proto in _outside(model):
            _fetch(proto, path.parent)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    return model


def data_files(path: Path) -> list[Path]:
    """The files beside an ONNX file in which tensors of it lie. Raises as `read_model` does."""
    model = _parsed(path)
    try:
        return sorted({_file_of(proto, path.parent) for proto in _outside(model)})
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error


def _parsed(path: Path) -> ModelProto:
    """The model without the tensors that lie in other files."""
    foreign = recognized(path)
    if foreign is not None:
        raise ImporterError(f"{path}: {foreign}")
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ImporterError(
            f"{path}: to read ONNX files takes the package onnx; pip install 'tinyvox[onnx]'"
        ) from error
    try:
        model: ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise ImporterError(f"{path}: is no ONNX model, or damaged; export it again") from error
    if not _is_text(model):
        raise ImporterError(f"{path}: has names that are no text; the file is damaged")
    if not model.graph.node:
        raise ImporterError(f"{path}: holds no graph of operators, expected an ONNX model")
    return model


def _outside(model: ModelProto) -> Iterator[TensorProto]:
    """The tensors that lie in other files."""
    from onnx import TensorProto

    return (each for each in _tensors(model) if each.data_location == TensorProto.EXTERNAL)


def _is_text(message: Any) -> bool:
    """Whether all strings are UTF-8; the parser gives bytes where one is not."""
    for field, value in message.ListFields():
        one = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        many = (value,) if one or field.type not in (_TEXT, _MESSAGE) else value
        if field.type == _TEXT and not all(isinstance(each, str) for each in many):
            return False
        if field.type == _MESSAGE and not all(map(_is_text, many)):
            return False
    return True


def tensor(proto: TensorProto) -> Tensor:
    """The values of a tensor: float32, int64, bool, or bytes where they are quantized weights.

    Raises ImporterError where they are of another type, or damaged.
    """
    from onnx import numpy_helper

    name, shape = _type_name(proto), list(proto.dims)
    what = f"tensor {proto.name!r} of type {name} and shape {shape}"
    if name not in (*_FLOATS, *_BYTES, *_INTEGERS, "BOOL"):
        raise ImporterError(f"{what}: not supported, expected floats, integers or bool")
    if min(shape, default=0) < 0 or math.prod(shape) > _held(proto):
        raise ImporterError(f"{what}: its values are missing; the file is damaged")
    try:
        values = numpy_helper.to_array(proto)
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise ImporterError(f"{what}: its values do not fit; the file is damaged") from error
    if name in _FLOATS:
        return torch.from_numpy(np.array(values, np.float32))
    if name == "BOOL":
        return torch.from_numpy(np.array(values, np.bool_))
    wide = torch.from_numpy(np.array(values, np.int64))
    return wide.to(_BYTES[name]) if name in _BYTES else wide


def _type_name(proto: TensorProto) -> str:
    from onnx import TensorProto

    known: dict[int, str] = {v: k for k, v in TensorProto.DataType.items()}
    return known.get(proto.data_type, str(proto.data_type))


def _held(proto: TensorProto) -> int:
    """The most values that a tensor may hold by the bytes that it has."""
    fields = (proto.float_data, proto.int32_data, proto.int64_data, proto.double_data)
    return max(2 * len(proto.raw_data), *(2 * len(f) for f in fields), 2 * len(proto.uint64_data))


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from _graph_tensors(model.graph, 0)
    for function in model.functions:
        for node in function.node:
            yield from (a.t for a in node.attribute if a.HasField("t"))


def _graph_tensors(graph: GraphProto, depth: int) -> Iterator[TensorProto]:
    if depth > _DEEPEST:
        raise ImporterError(f"has more than {_DEEPEST} graphs inside one another")
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g, depth + 1)


def _fetch(proto: TensorProto, folder: Path) -> None:
    """Read a tensor that lies in another file, and keep it in the model."""
    from onnx import TensorProto

    entries, what = _entries(proto), f"tensor {proto.name!r}"
    file = _file_of(proto, folder)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", file.stat().st_size - offset))
    except ValueError as error:
        raise ImporterError(f"{what}: its place in {file.name} is no number") from error
    if offset < 0 or length < 0 or offset + length > file.stat().st_size:
        raise ImporterError(
            f"{what}: bytes {offset} to {offset + length} of {file.name}, which has "
            f"{file.stat().st_size}; copy the file again"
        )
    with file.open("rb") as opened:
        opened.seek(offset)
        proto.raw_data = opened.read(length)
    proto.ClearField("external_data")
    proto.data_location = TensorProto.DEFAULT


def _entries(proto: TensorProto) -> dict[str, str]:
    """Where a tensor lies that is in another file."""
    return {entry.key: entry.value for entry in proto.external_data}


def _file_of(proto: TensorProto, folder: Path) -> Path:
    return _beside(_entries(proto).get("location", ""), folder, f"tensor {proto.name!r}")


def _beside(location: str, folder: Path, what: str) -> Path:
    """The file of this name in the model's folder, or in a folder inside it."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    if not location or "\0" in location or absolute or ".." in parts:
        raise ImporterError(
            f"{what} lies in {location!r}, expected a file in the folder of the model"
        )
    file = folder / location
    if not file.is_file():
        raise ImporterError(f"{what} lies in {location!r}, which is missing beside the model")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ImporterError(f"{what} lies in {location!r}, a link that leaves the model's folder")
    return file

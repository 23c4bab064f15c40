"""What is in a TensorFlow Lite file: tensors, operators and their options, checked and bounded.

The format is FlatBuffers: offsets that lead anywhere in the file. The reader of the `tflite`
package does not check them, so what is wrong with a file shows as an error of Python's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinyvox.errors import ImporterError

MAX_VALUES = 1 << 28
"""Most values of a tensor."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class FileTensor:
    """A tensor of the graph. `data` is its constant value, of the type in the file; None for what
    is computed. `scales` and `zeros` are those of its quantization, along dimension `axis`."""

    name: str
    shape: tuple[int, ...]
    type: str
    data: Array | bytes | None
    scales: Array
    zeros: Array
    axis: int

    @property
    def is_quantized(self) -> bool:
        """Whether whole numbers stand for its values."""
        return self.scales.size > 0 and self.type.startswith(("INT", "UINT"))

    def value(self) -> Tensor:
        """The constant as torch has it: quantized values and float16 as float32."""
        assert isinstance(self.data, np.ndarray)
        if not self.is_quantized:
            exact = self.data.astype(np.float32) if self.data.dtype.kind == "f" else self.data
            return torch.from_numpy(np.array(exact))
        shape = [1] * self.data.ndim
        if self.scales.size > 1:
            shape[self.axis] = self.scales.size
        scales, zeros = self.scales.reshape(shape), self.zeros.reshape(shape)
        centered = self.data.astype(np.int32) - zeros
        return torch.from_numpy(centered.astype(np.float32) * scales)


@dataclass(frozen=True, eq=False)
class Operation:
    """An operator of the graph. `inputs` are tensors by number, -1 for none."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    table: Any
    """The operator's own FlatBuffers table."""


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph of a file; `tensors` by number."""

    tensors: Sequence[FileTensor]
    operations: Sequence[Operation]
    inputs: Sequence[int]
    outputs: Sequence[int]


def read_graphs(path: Path) -> list[Graph]:
    """The graphs of a file, the main one first. Raises ImporterError with the file's name."""
    try:
        import tflite
    except ModuleNotFoundError as error:
        raise ImporterError(
            f"{path}: reading TensorFlow Lite files needs {error.name!r}; "
            "pip install 'tinyvox[tflite]'"
        ) from error
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise ImporterError(
            f"{path}: is no TensorFlow Lite file of version 3; expected 'TFL3' at byte 4"
        )
    try:
        return _Reader(tflite, data).graphs()
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error
    except Exception as error:  # a damaged file raises many kinds, from struct, numpy or the reader
        raise ImporterError(
            f"{path}: damaged TensorFlow Lite file ({type(error).__name__}: {_line(error)}); "
            "download or export it again"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:100]


class _Reader:
    def __init__(self, tflite: Any, data: bytes) -> None:
        self._size, self._data = len(data), data
        self._model = tflite.Model.GetRootAs(data, 0)
        self._operators = _names(tflite.BuiltinOperator)
        self._types = _names(tflite.TensorType)

    def graphs(self) -> list[Graph]:
        count = self._count(self._model.SubgraphsLength())
        if not count:
            raise ImporterError("holds no graph")
        return [self._graph(self._model.Subgraphs(i)) for i in range(count)]

    def _count(self, found: int) -> int:
        """A number of entries, each of which takes four bytes or more."""
        if found > self._size // 4:
            raise ImporterError(f"damaged: {found} entries in {self._size} bytes")
        return found

    def _graph(self, graph: Any) -> Graph:
        tensors = [
            self._tensor(graph.Tensors(i)) for i in range(self._count(graph.TensorsLength()))
        ]
        operations = [
            self._operation(graph.Operators(i)) for i in range(self._count(graph.OperatorsLength()))
        ]
        found = Graph(
            tensors, operations, _list(graph.InputsAsNumpy()), _list(graph.OutputsAsNumpy())
        )
        places: list[Graph | Operation] = [found, *operations]
        for place in places:
            for number in (*place.inputs, *place.outputs):
                if not -1 <= number < len(tensors):
                    raise ImporterError(f"damaged: tensor {number} of {len(tensors)}")
        return found

    def _operation(self, operator: Any) -> Operation:
        number = operator.OpcodeIndex()
        if number >= self._count(self._model.OperatorCodesLength()):
            raise ImporterError(f"damaged: operator code {number}")
        code = self._model.OperatorCodes(number)
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._operators.get(builtin, f"operator {builtin}")
        if name == "CUSTOM":
            name = (code.CustomCode() or b"CUSTOM").decode("utf-8", "replace")
        return Operation(
            name, _list(operator.InputsAsNumpy()), _list(operator.OutputsAsNumpy()), operator
        )

    def _tensor(self, tensor: Any) -> FileTensor:
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        signature = _list(tensor.ShapeSignatureAsNumpy())
        shape = tuple(_list(tensor.ShapeAsNumpy()))
        if len(signature) == len(shape):
            shape = tuple(signature)
        if len(shape) > 8 or any(size < -1 for size in shape):
            raise ImporterError(f"damaged: tensor {name!r} has shape {list(shape)}")
        kind = self._types.get(tensor.Type(), "unknown")
        scales, zeros, axis = self._quantization(tensor, name)
        data = self._constant(tensor, name, shape, kind)
        if isinstance(data, np.ndarray) and scales.size > 1:
            fits = 0 <= axis < data.ndim and data.shape[axis] == scales.size
            if not fits:
                raise ImporterError(
                    f"damaged: tensor {name!r} of shape {list(shape)} has {scales.size} scales "
                    f"along dimension {axis}"
                )
        return FileTensor(name, shape, kind, data, scales, zeros, axis)

    def _quantization(self, tensor: Any, name: str) -> tuple[Array, Array, int]:
        found = tensor.Quantization()
        none = np.zeros(0, np.float32)
        if found is None or not found.ScaleLength():
            return none, np.zeros(0, np.int32), 0
        scales = np.array(found.ScaleAsNumpy(), np.float32)
        zeros = np.zeros(scales.size, np.int64)
        if found.ZeroPointLength():
            given = np.array(found.ZeroPointAsNumpy(), np.int64)
            if given.size not in (1, scales.size) or np.abs(given).max() > 1 << 15:
                raise ImporterError(f"damaged: the zero points of tensor {name!r}")
            zeros = np.broadcast_to(given, scales.shape)
        if not np.isfinite(scales).all():
            raise ImporterError(f"the scales of tensor {name!r} are not finite; export it again")
        return scales, zeros.astype(np.int32), int(found.QuantizedDimension())

    def _constant(
        self, tensor: Any, name: str, shape: tuple[int, ...], kind: str
    ) -> Array | bytes | None:
        number = tensor.Buffer()
        if number == 0:
            return None
        if number >= self._count(self._model.BuffersLength()):
            raise ImporterError(f"damaged: buffer {number} of tensor {name!r}")
        buffer = self._model.Buffers(number)
        if not buffer.DataLength():
            return None
        raw = np.frombuffer(buffer.DataAsNumpy(), np.uint8)
        if kind == "STRING":
            return bytes(raw)
        if kind == "INT4":
            return _unpacked(raw, shape)
        dtype = _NUMPY.get(kind)
        if dtype is None:
            return None
        count = math.prod(shape)
        if count > MAX_VALUES or count * np.dtype(dtype).itemsize != raw.size:
            raise ImporterError(
                f"damaged: tensor {name!r} of shape {list(shape)} and type {kind} has "
                f"{raw.size} bytes"
            )
        return raw.view(dtype).reshape(shape)


_NUMPY = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "i1",
    "UINT8": "u1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "BOOL": "?",
}


def _unpacked(raw: Array, shape: tuple[int, ...]) -> Array:
    """Numbers of four bits, two in a byte, the lower one first."""
    count = math.prod(shape)
    if raw.size != (count + 1) // 2:
        raise ImporterError(f"damaged: {raw.size} bytes for {count} numbers of 4 bits")
    both = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    signed: Array = np.where(both > 7, both - 16, both).astype(np.int8).reshape(shape)
    return signed


def _names(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


def _list(numbers: Any) -> list[int]:
    """A vector of whole numbers; the reader gives 0 where there is none."""
    return [int(number) for number in numbers] if isinstance(numbers, np.ndarray) else []

"""TensorFlow's tensors in protocol buffers: TensorProto, and bytes of a DataType.

Field numbers are those of tensor.proto, tensor_shape.proto and types.proto.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tensorflow import bounded
from tinyvox.importers.wire import Message

MAX_VALUES = 1 << 28
"""Most values of a tensor."""
FLOATS = frozenset((1, 2, 14, 19))
"""Types of real numbers: float32, float64, bfloat16, float16."""
STRING, BFLOAT16 = 7, 14
NUMPY = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 14: "<u2",
    17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
"""The types of tensors, by DataType, as numpy has them; bfloat16 as its bits."""
_VALUES = {1: 5, 2: 6, 9: 10, 10: 11, 14: 13, 19: 13, 22: 16, 23: 17}
"""The field of a TensorProto that holds values one by one, by type; others are in int_val."""


def shape_of(message: Message) -> tuple[int, ...] | None:
    """The sizes of a TensorShapeProto; None for any rank."""
    if message.number(3):
        return None
    sizes = tuple(each.number(1) for each in message.messages(2))
    if len(sizes) > 8 or any(size < -1 for size in sizes):
        raise ImporterError(f"damaged: a tensor of shape {list(sizes)[:9]}")
    return sizes


def constant_of(message: Message) -> Tensor | bytes:
    """The value of a TensorProto, real numbers as float32; a text as its bytes."""
    kind, shape = message.number(1), shape_of(message.message(2)) or ()
    if kind == STRING:
        return bytes((message.bytes(8) or [memoryview(b"")])[0])
    if kind not in NUMPY:
        raise ImporterError(f"holds values of type {kind}, expected numbers")
    if message.bytes(4):
        return tensor_of(message.bytes(4)[-1], kind, shape)
    return _spread(_listed(message, kind), shape)


def _listed(message: Message, kind: int) -> Tensor:
    """Values one by one; of 16-bit floats, their bits."""
    number = _VALUES.get(kind, 7)
    if kind in (1, 2):
        return torch.tensor(
            message.floats(number, "<f" if kind == 1 else "<d"), dtype=torch.float32
        )
    values = np.array(message.numbers(number), np.int64)
    if kind in (14, 19):
        return tensor_of(memoryview(values.astype("<u2").tobytes()), kind, values.shape)
    return torch.from_numpy(values.astype(bool)) if kind == 10 else torch.from_numpy(values)


def _spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values of a shape; the last one stands for all that are left out, and zeros for none."""
    count = _count(shape)
    if values.numel() == count:
        return values.reshape(shape)
    if values.numel() > count:
        raise ImporterError(f"damaged: {values.numel()} values for a tensor of {list(shape)}")
    last = values[-1:] if values.numel() else values.new_zeros(1)
    bounded(shape)
    return torch.cat([values, last.expand(count - values.numel())]).reshape(shape)


def tensor_of(raw: memoryview, kind: int, shape: Sequence[int]) -> Tensor:
    """Bytes as a tensor of a DataType: real numbers as float32, whole ones as int64."""
    if kind not in NUMPY:
        raise ImporterError(f"holds values of type {kind}, expected numbers")
    dtype, count = np.dtype(NUMPY[kind]), _count(shape)
    if len(raw) != count * dtype.itemsize:
        raise ImporterError(
            f"damaged: {len(raw)} bytes for a tensor of {list(shape)} and {dtype.itemsize} bytes "
            "each"
        )
    values = np.frombuffer(raw, dtype).reshape(shape)
    if kind == BFLOAT16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if kind in FLOATS:
        return torch.from_numpy(np.array(values, np.float32))
    return torch.from_numpy(values.copy() if dtype.kind == "b" else values.astype(np.int64))


def region_of(region: memoryview, kind: int, shape: Sequence[int]) -> Tensor:
    """The tensor at the start of a region, which may be longer."""
    size = np.dtype(NUMPY.get(kind, "u1")).itemsize * _count(shape)
    return tensor_of(region[:size], kind, shape)


def _count(shape: Sequence[int]) -> int:
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > MAX_VALUES:
        raise ImporterError(f"damaged: a tensor of shape {list(shape)}")
    return count

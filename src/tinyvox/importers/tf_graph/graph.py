"""What is in a GraphDef: nodes, their inputs and attributes, and functions.

Field numbers are those of TensorFlow's graph.proto, node_def.proto, attr_value.proto, tensor.proto
and function.proto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

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


@dataclass(frozen=True, eq=False)
class Attribute:
    """A setting of a node; which of the kinds it has, the operator says."""

    message: Message

    @property
    def whole(self) -> int:
        """A whole number, a truth value or a type."""
        return next((self.message.number(n) for n in (3, 5, 6) if n in self.message), 0)

    @property
    def real(self) -> float:
        """A floating-point number."""
        return float((self.message.floats(4) or [0.0])[-1])

    @property
    def text(self) -> str:
        """A text."""
        return self.message.text(2)

    @property
    def wholes(self) -> list[int]:
        """A list of whole numbers."""
        return self.message.message(1).numbers(3)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The sizes of a shape, -1 where one is open; None for a shape of any rank."""
        return shape_of(self.message.message(7)) if 7 in self.message else None

    @property
    def function(self) -> str:
        """The name of a function."""
        return self.message.message(10).text(1)


@dataclass(frozen=True, eq=False)
class GraphNode:
    """An operator. `inputs` name outputs of others: `name` or `name:1`."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    def attribute(self, name: str) -> Attribute:
        """A setting; an empty one where it is not given."""
        return self.attributes.get(name, Attribute(Message(b"")))

    @property
    def type(self) -> int:
        """The DataType of its output, where an attribute tells."""
        given = (self.attributes[n] for n in ("dtype", "T", "DstT") if n in self.attributes)
        return next(given, Attribute(Message(b""))).whole

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape that a placeholder declares."""
        return self.attribute("shape").shape


@dataclass(frozen=True, eq=False)
class Function:
    """A graph that loops and calls run: the names of its arguments, its nodes, and the value of
    each result, `node:output:number` or the name of an argument."""

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    nodes: Mapping[str, GraphNode]


@dataclass(frozen=True, eq=False)
class GraphFile:
    """A GraphDef. `regions` has the bytes that ImmutableConst nodes name."""

    nodes: Mapping[str, GraphNode]
    functions: Mapping[str, Function] = field(default_factory=dict)
    regions: Mapping[str, memoryview] = field(default_factory=dict)

    @cached_property
    def users(self) -> Mapping[str, list[GraphNode]]:
        """The nodes that take each node's outputs."""
        found: dict[str, list[GraphNode]] = {}
        for node in self.nodes.values():
            for given in node.inputs:
                found.setdefault(source_of(given), []).append(node)
        return found


def source_of(given: str) -> str:
    """The node that an input names."""
    return given.lstrip("^").split(":")[0]


def read_graph(data: memoryview, regions: Mapping[str, memoryview] | None = None) -> GraphFile:
    """The graph in these bytes. Raises ImporterError where they hold none."""
    message = Message(data)
    nodes = _nodes(message.messages(1))
    if not nodes:
        raise ImporterError("holds no graph (no nodes); expected a frozen TensorFlow graph")
    functions = dict(map(_function, message.message(2).messages(1)))
    return GraphFile(nodes, functions, regions or {})


def _nodes(messages: Sequence[Message]) -> dict[str, GraphNode]:
    nodes = [_node(message) for message in messages]
    texts = [text for node in nodes for text in (node.name, node.op)]
    if not all(text and text.isprintable() for text in texts):
        raise ImporterError("has a node without a name or an operator; it is no TensorFlow graph")
    return {node.name: node for node in nodes}


def _node(message: Message) -> GraphNode:
    attributes = {entry.text(1): Attribute(entry.message(2)) for entry in message.messages(5)}
    return GraphNode(message.text(1), message.text(2), tuple(message.texts(3)), attributes)


def _function(message: Message) -> tuple[str, Function]:
    signature = message.message(1)
    arguments = tuple(each.text(1) for each in signature.messages(2))
    given = {entry.text(1): entry.text(2) for entry in message.messages(4)}
    results = tuple(given.get(each.text(1), "") for each in signature.messages(3))
    return signature.text(1), Function(arguments, results, _nodes(message.messages(3)))


def shape_of(message: Message) -> tuple[int, ...] | None:
    """The sizes of a TensorShapeProto; None for any rank."""
    if message.number(3):
        return None
    sizes = tuple(each.number(1) for each in message.messages(2))
    if len(sizes) > 8 or any(size < -1 for size in sizes):
        raise ImporterError(f"damaged: a tensor of shape {list(sizes)[:9]}")
    return sizes


def constant_of(attribute: Attribute) -> Tensor | bytes:
    """The value of a Const node, real numbers as float32; a text as its bytes."""
    message = attribute.message.message(8)
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

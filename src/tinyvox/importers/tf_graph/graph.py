"""What is in a GraphDef: nodes, their inputs and attributes, and functions.

Field numbers are those of TensorFlow's graph.proto, node_def.proto, attr_value.proto and
function.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.tf_tensors import constant_of, shape_of
from tinyvox.importers.wire import Message

FREEZE = (
    "freeze it: tensorflow.python.framework.convert_to_constants.convert_variables_to_constants_v2("
    "FUNCTION).graph.as_graph_def(), written by SerializeToString() to a .pb file"
)
"""What to do where variables have no values in the graph."""


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
    def tensor(self) -> Tensor | bytes:
        """A tensor, or a text as its bytes."""
        return constant_of(self.message.message(8))

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
    if 2 in message and message.is_number(1):
        raise ImporterError(f"is a SavedModel, whose values lie in other files; {FREEZE}")
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

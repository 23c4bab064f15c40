"""An ONNX graph, operator by operator, as a tape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tinyvox.errors import ImporterError
from tinyvox.importers.layer_graph import Place
from tinyvox.importers.onnx.file import tensor
from tinyvox.importers.onnx.operation import Findings, Operation
from tinyvox.importers.onnx.operators import TRANSLATORS
from tinyvox.importers.tape import Tape

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_WEIGHTED = frozenset(
    (
        *("MatMul", "Gemm", "Conv", "LSTM", "GRU", "RNN"),
        *("BatchNormalization", "LayerNormalization", "FusedMatMul"),
        *("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM", "MatMulNBits"),
    )
)
"""Operators that are one layer each."""
_DEEPEST = 32
"""Graphs and functions inside one another."""
_MOST_OPERATORS = 1 << 17
"""Operators in all, those of functions each time that they are called."""
_ELEMENTS = 1 << 25
"""Elements that constants may have that a small file makes; a large one may make more."""

Scope = dict[str, Any]
"""What each name stands for: a value, a constant, or None for what nothing may use."""


@dataclass(frozen=True)
class _Body:
    """The operators of a graph or a function, and the versions of the sets they are from."""

    nodes: Sequence[NodeProto]
    outputs: Sequence[str]
    versions: Mapping[str, int]


class Reading:
    """A model followed in order, for examples of its inputs; all inputs given are signals.

    `outputs` has what each output is. Raises ImporterError, with the operator, where there is no
    translation for it.
    """

    def __init__(
        self,
        model: ModelProto,
        signals: Mapping[str, Tensor],
        constants: Mapping[str, Tensor],
        tape: Tape | None = None,
    ) -> None:
        weights = {proto.name: tensor(proto) for proto in model.graph.initializer}
        size = sum(each.numel() for each in weights.values())
        self.findings = Findings(tape or Tape())
        self.findings.tape.budget = _ELEMENTS + 16 * size
        self.inputs = {n: self.findings.tape.input(n, t) for n, t in signals.items()}
        self._functions = {(f.domain, f.name): f for f in model.functions}
        self._left = _MOST_OPERATORS
        versions = {each.domain: each.version for each in model.opset_import}
        names = [output.name for output in model.graph.output]
        self._read: set[str] = set()
        scope: Scope = {**weights, **constants, **self.inputs}
        found = self._run(_Body(model.graph.node, names, versions), scope, {}, 0)
        self.outputs = dict(zip(names, found, strict=True))
        float_weights = (
            w for n, w in weights.items() if n in self._read and w.dtype.is_floating_point
        )
        self.findings.parameters += sum(w.numel() for w in float_weights)

    def _run(
        self, body: _Body, scope: Scope, attributes: Mapping[str, AttributeProto], depth: int
    ) -> list[Any]:
        """What the outputs of a graph or a function are; `scope` gets what is inside it."""
        if depth > _DEEPEST:
            raise ImporterError(f"has more than {_DEEPEST} graphs or functions inside one another")
        paths = dict(filter(None, map(_biased, body.nodes)))
        for node in needed(body):
            self._left -= 1
            if self._left < 0:
                raise ImporterError(f"has more than {_MOST_OPERATORS} operators")
            place = place_of(node, next((paths[o] for o in node.output if o in paths), ""))
            try:
                found = self._follow(node, body.versions, scope, attributes, depth, place)
            except ImporterError as error:
                raise ImporterError(_placed(place[1], error)) from error
            if len(found) < len(node.output):
                found = [*found, *[None] * (len(node.output) - len(found))]
            scope.update((n, each) for n, each in zip(node.output, found, strict=False) if n)
        return [self._known(name, scope) for name in body.outputs]

    def _known(self, name: str, scope: Scope) -> Any:
        if name not in scope:
            raise ImporterError(
                f"takes {name!r}, which nothing before it gives: the graph has a circle, or its "
                "operators are not in order"
            )
        self._read.add(name)
        return scope[name]

    def _follow(
        self,
        node: NodeProto,
        versions: Mapping[str, int],
        scope: Scope,
        attributes: Mapping[str, AttributeProto],
        depth: int,
        place: tuple[Place, str],
    ) -> Sequence[Any]:
        """What an operator gives."""
        inputs = tuple(self._known(name, scope) if name else None for name in node.input)
        given = dict(_resolved(node, attributes))
        function = self._functions.get((node.domain, node.op_type))
        if function is not None:
            return self._call(function, inputs, given, depth)
        if node.op_type == "If":
            return self._branch(node, inputs, versions, scope, attributes, depth)
        if node.op_type not in TRANSLATORS or node.domain not in _DOMAINS:
            domain = f" of {node.domain}" if node.domain not in ("", "ai.onnx") else ""
            raise ImporterError(f"is not supported{domain}")
        tape = self.findings.tape
        tape.place, tape.where = place
        operation = Operation(
            self.findings,
            node.op_type,
            inputs,
            {name: _plain(each) for name, each in given.items()},
            versions.get("", versions.get("ai.onnx", 1)),
            sum(bool(name) for name in node.output),
        )
        try:
            found = TRANSLATORS[node.op_type](operation)
        except (RuntimeError, ValueError, TypeError, IndexError, OverflowError) as error:
            # inputs and attributes of a damaged file may be anything
            text = str(error).strip().splitlines() or [type(error).__name__]
            raise ImporterError(f"its inputs and attributes do not fit: {text[0]}") from error
        return found if isinstance(found, list | tuple) else [found]

    def _call(
        self,
        function: FunctionProto,
        inputs: Sequence[Any],
        given: Mapping[str, AttributeProto],
        depth: int,
    ) -> Sequence[Any]:
        """What a function of the model gives."""
        padded = [*inputs, *[None] * (len(function.input) - len(inputs))]
        scope: Scope = dict(zip(function.input, padded, strict=False))
        defaults = {each.name: each for each in function.attribute_proto}
        versions = {each.domain: each.version for each in function.opset_import}
        body = _Body(function.node, function.output, versions)
        return self._run(body, scope, {**defaults, **given}, depth + 1)

    def _branch(
        self,
        node: NodeProto,
        inputs: Sequence[Any],
        versions: Mapping[str, int],
        scope: Scope,
        attributes: Mapping[str, AttributeProto],
        depth: int,
    ) -> Sequence[Any]:
        """The branch of an `If` whose condition is a constant."""
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].numel() != 1:
            raise ImporterError("depends on the model's input, expected a constant condition")
        name = "then_branch" if bool(inputs[0]) else "else_branch"
        graphs: dict[str, GraphProto] = {a.name: a.g for a in node.attribute if a.HasField("g")}
        if name not in graphs:
            raise ImporterError(f"has no {name}")
        graph = graphs[name]
        inside = {**scope, **{proto.name: tensor(proto) for proto in graph.initializer}}
        body = _Body(graph.node, [output.name for output in graph.output], versions)
        return self._run(body, inside, attributes, depth + 1)


def _placed(where: str, error: ImporterError) -> str:
    """The message with its place, which that of a graph inside has already."""
    text = str(error)
    return text if re.match(r"\w+ \(node ", text) else f"{where}: {text}"


def needed(body: _Body) -> list[NodeProto]:
    """The operators that the outputs depend on, in order."""
    names = set(body.outputs)
    found = []
    for node in reversed(body.nodes):
        if names & set(filter(None, node.output)):
            names.update(taken(node))
            found.append(node)
    return found[::-1]


def taken(node: NodeProto) -> Iterator[str]:
    """The names that an operator takes, those in its graphs too."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _inside(attribute.g)


def _inside(graph: GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from taken(node)
    yield from (output.name for output in graph.output)


def _resolved(
    node: NodeProto, attributes: Mapping[str, AttributeProto]
) -> Iterator[tuple[str, AttributeProto]]:
    """The attributes by name; in a function they may be those of its call."""
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            yield attribute.name, attribute
        elif attribute.ref_attr_name in attributes:
            yield attribute.name, attributes[attribute.ref_attr_name]


def _plain(attribute: AttributeProto) -> Any:
    """The value of an attribute: a number, bytes, a list of these, or a tensor's proto."""
    from onnx import AttributeProto

    kinds: dict[int, Callable[[], Any]] = {
        AttributeProto.FLOAT: lambda: float(attribute.f),
        AttributeProto.INT: lambda: int(attribute.i),
        AttributeProto.STRING: lambda: bytes(attribute.s),
        AttributeProto.FLOATS: lambda: [float(each) for each in attribute.floats],
        AttributeProto.INTS: lambda: [int(each) for each in attribute.ints],
        AttributeProto.STRINGS: lambda: [bytes(each) for each in attribute.strings],
        AttributeProto.TENSOR: lambda: attribute.t,
    }
    if attribute.type not in kinds:
        raise ImporterError(f"attribute {attribute.name} is of type {attribute.type}")
    return kinds[attribute.type]()


def _biased(node: NodeProto) -> tuple[str, str] | None:
    """What an `Add` adds a bias to, and the path of that bias."""
    if node.op_type != "Add" or len(node.input) != 2:
        return None
    pairs = (tuple(node.input), tuple(node.input)[::-1])
    return next(
        ((one, two.removesuffix(".bias")) for one, two in pairs if two.endswith(".bias")), None
    )


def place_of(node: NodeProto, known: str) -> tuple[Place, str]:
    """Where an operator stands: the path for its layer's name, and words for messages.

    The path is that of its weight, or the one that is `known`; or else what it is called.
    """
    name = _printable(node.name) or _printable(next(iter(node.output), ""))
    where = f"{node.op_type} (node {name!r})"
    path = node.name.rpartition("/")[0] if "/" in node.name else node.name
    if not path.startswith("/"):
        weight = next((n for n in node.input if n.endswith(".weight")), known)
        path = weight.removesuffix(".weight") or path
    path = re.sub(r"[^\w.\-]+", ".", path).strip(".")[:_LONGEST_NAME]
    return Place(path, node.op_type in _WEIGHTED), where


_LONGEST_NAME = 120


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])

"""The constant tensors of somebody else's ONNX graph, and what each is read by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyvox.errors import ImporterError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

OLDEST = 11
"""The first version of ONNX's operators that can unpack codes."""
WEIGHT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "Conv": (1,),
    "ConvTranspose": (1,),
}
"""The inputs of operators that are weights."""
BIAS_INPUTS: Mapping[str, int] = {
    "LSTM": 3, "GRU": 3, "RNN": 3, "Gemm": 2, "Conv": 2, "ConvTranspose": 2,
}  # fmt: skip
"""The inputs that are biases."""
PASSING = (
    *("Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Flatten"),
    *("Slice", "Split", "Concat"),
)
"""Operators that only arrange the values of a tensor."""


@dataclass(frozen=True)
class Use:
    """An operator that reads a tensor, by one of its inputs; `directly`, or arranged anew."""

    operator: str
    place: int
    output: str
    directly: bool
    attributes: Mapping[str, Any]


@dataclass
class Constants:
    """The constant tensors of a graph by name, what reads each, and the names of its outputs."""

    tensors: dict[str, TensorProto] = field(default_factory=dict)
    uses: dict[str, list[Use]] = field(default_factory=lambda: defaultdict(list))
    outputs: set[str] = field(default_factory=set)


def read_onnx(path: Path) -> ModelProto:
    """Read an ONNX file. Raises ImporterError, with its name, where it is none, or too old."""
    import onnx

    try:
        proto = onnx.load(path)
    except Exception as error:  # a damaged file raises many kinds
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise ImporterError(f"{path}: no ONNX file that can be read: {said}") from error
    if not proto.graph.node:
        raise ImporterError(f"{path}: no ONNX file that can be read: holds no operator")
    if _has_strange_names(proto.graph):
        raise ImporterError(f"{path}: no ONNX file that can be read: a name is no UTF-8")
    found = [each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")]
    if not found or found[0] < OLDEST:
        raise ImporterError(
            f"{path}: has operators of version {found[0] if found else 'none'}, expected {OLDEST} "
            "or later; convert it with onnx.version_converter"
        )
    return proto


def _has_strange_names(graph: GraphProto) -> bool:
    """Whether some name is no UTF-8: it is bytes then."""
    texts = [
        text for node in all_nodes(graph) for text in (node.op_type, *node.input, *node.output)
    ]
    texts += [a.name for node in all_nodes(graph) for a in node.attribute]
    texts += [each.name for each in (*graph.initializer, *graph.input, *graph.output)]
    return not all(isinstance(text, str) for text in texts)


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of those inside it."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def constants(graph: GraphProto) -> Constants:
    """The constant tensors of a graph and of those inside it, which may read those outside."""
    found = Constants()
    _gather(graph, found, {})
    return found


def _gather(graph: GraphProto, found: Constants, sources: dict[str, dict[str, bool]]) -> None:
    """`sources` are the constants that a value is made of; whether it is a constant itself."""
    for tensor in graph.initializer:
        found.tensors[tensor.name] = tensor
        sources[tensor.name] = {tensor.name: True}
    for node in graph.node:
        if (value := constant_of(node)) is not None:
            found.tensors[node.output[0]] = value
            sources[node.output[0]] = {node.output[0]: True}
            continue
        _note_uses(node, found, sources)
        for inner in subgraphs(node):
            _gather(inner, found, sources)
    for output in graph.output:
        found.outputs.update(sources.get(output.name, ()))


def _note_uses(node: NodeProto, found: Constants, sources: dict[str, dict[str, bool]]) -> None:
    from onnx import helper

    passing = node.op_type in PASSING
    for place, name in enumerate(node.input):
        for constant, directly in sources.get(name, {}).items():
            if not passing:
                attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                use = Use(node.op_type, place, node.output[0], directly, attributes)
                found.uses[constant].append(use)
            elif place == 0 or node.op_type == "Concat":
                for output in node.output:
                    sources.setdefault(output, {})[constant] = False


def constant_of(node: NodeProto) -> TensorProto | None:
    """The tensor of a node that is a constant; None for other nodes."""
    if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
        value: TensorProto = node.attribute[0].t
        return value
    return None


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs

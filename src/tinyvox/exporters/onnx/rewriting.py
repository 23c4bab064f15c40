"""Somebody else's ONNX graph with small weights: found, and written back in other forms.

A weight becomes operators that compute it, under the same name; everything else stays as it is.
Where one product alone reads it, the product becomes one for each factor.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from tinyvox.errors import ImporterError
from tinyvox.exporters.forms import Form
from tinyvox.exporters.onnx.graph import CONTRIBUTED, Array, Graph
from tinyvox.exporters.onnx.tensors import (
    BIAS_INPUTS,
    WEIGHT_INPUTS,
    Constants,
    Use,
    all_nodes,
    constant_of,
    constants,
    subgraphs,
)
from tinyvox.exporters.onnx.weights import Weights
from tinyvox.model import Dense, Matrix

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

LEAST = 1024
"""A tensor of fewer values does not become smaller by the operators that unpack it."""
LEAST_VECTOR = 64
"""The same for a vector that is rounded to float16."""
PART_BYTES = 3
"""About the bytes before each operator and each tensor in a file: its kind, and its size."""
PREFIX = "tinyvox."
"""The beginning of the names of new values."""
QUANTIZED = "is quantized already"
_CODES = ("INT8", "UINT8", "INT4", "UINT4")
"""The types of tensors that hold codes of weights."""


@dataclass(frozen=True)
class GraphWeight:
    """A weight of a graph as a matrix [out, in]; `shape` is the tensor's own.

    `columns_first`: the tensor is the transposed matrix. `product` is the output of the one product
    that reads it, if that is all that does.
    """

    name: str
    matrix: Dense
    shape: tuple[int, ...]
    operator: str
    columns_first: bool = False
    product: str | None = None

    def cost(self, matrix: Matrix) -> int:
        """About the bytes that the weight takes in a file as this matrix."""
        graph = Graph(place=f"{PREFIX}00")
        _add(graph, Weights(graph), self, matrix, "input", None)
        parts = [*graph.nodes(), *graph.initializers()]
        return sum(part.ByteSize() + PART_BYTES for part in parts)


@dataclass(frozen=True)
class GraphWeights:
    """The weights of a graph, its biases by name, the large tensors that are left, with the reason,
    and the values of the largest weight that is too small."""

    proto: ModelProto
    weights: Sequence[GraphWeight]
    biases: Mapping[str, Array]
    left: Mapping[str, str]
    largest_small: int = 0

    def nothing(self) -> str:
        """Why there are no weights: one line on the graph."""
        if self.left:
            known = sorted(self.left.items(), key=lambda each: not each[1].startswith(QUANTIZED))
            name, reason = known[0]
            others = f"; {len(known) - 1} other tensors stay too" if len(known) > 1 else ""
            return f"has no weights that can be compressed: {name} {reason}{others}"
        if self.largest_small:
            return (
                f"has weights of {self.largest_small:,} values at most, which do not become "
                f"smaller; expected one of {LEAST:,} or more"
            )
        return "has no weights of recurrent, dense or convolution operators"


def find_weights(proto: ModelProto) -> GraphWeights:
    """The weights of all recurrent, dense and convolution operators of a graph.

    Raises ImporterError, with the tensor, where one does not hold what it says.
    """
    found = constants(proto.graph)
    weights: list[GraphWeight] = []
    biases: dict[str, Array] = {}
    left: dict[str, str] = {}
    small = 0
    for name, tensor in found.tensors.items():
        uses = found.uses[name]
        if _is_bias(tensor, uses):
            biases[name] = _values(tensor)
        elif math.prod(tensor.dims) >= LEAST:
            reason = _reason_against(tensor, uses)
            if reason is None:
                weights.append(_weight(found, name, tensor))
            else:
                left[name] = reason
        elif any(map(_is_weight, uses)):
            small = max(small, math.prod(tensor.dims))
    return GraphWeights(proto, weights, biases, left, small)


def _is_weight(use: Use) -> bool:
    return use.place in WEIGHT_INPUTS.get(use.operator, ())


def _is_bias(tensor: TensorProto, uses: Sequence[Use]) -> bool:
    from onnx import TensorProto

    read = bool(uses) and all(BIAS_INPUTS.get(use.operator) == use.place for use in uses)
    if not read or tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < LEAST_VECTOR:
        return False
    return bool((np.abs(_values(tensor)) < np.finfo(np.float16).max).all())


def _reason_against(tensor: TensorProto, uses: Sequence[Use]) -> str | None:
    from onnx import TensorProto

    readers = sorted({use.operator for use in uses})
    by, kind = ", ".join(readers) or "nothing", TensorProto.DataType.Name(tensor.data_type)
    if kind in _CODES:
        return f"{QUANTIZED}: {by} reads its {kind.lower()} codes"
    if not any(map(_is_weight, uses)):
        return f"is no weight of a recurrent, dense or convolution operator: {by} reads it"
    if tensor.data_type != TensorProto.FLOAT:
        return f"is {kind.lower()}, expected float"
    if len(tensor.dims) < 2:
        return "is a vector"
    return None if np.isfinite(_values(tensor)).all() else "holds NaN or infinity"


def _values(tensor: TensorProto) -> Array:
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        shape = list(tensor.dims)
        raise ImporterError(
            f"damaged: the tensor {tensor.name!r} does not hold the values of its shape {shape}"
        ) from error


def _weight(found: Constants, name: str, tensor: TensorProto) -> GraphWeight:
    uses = [use for use in found.uses[name] if _is_weight(use)]
    values = torch.from_numpy(_values(tensor).astype(np.float32))
    operator, shape = uses[0].operator, tuple(values.shape)
    columns_first = len(shape) == 2 and all(map(_reads_columns_first, uses))
    flat = values.flatten(1) if operator.startswith("Conv") else values.flatten(0, -2)
    matrix = Dense((flat.T if columns_first else flat).contiguous())
    alone = len(found.uses[name]) == 1 and len(shape) == 2 and name not in found.outputs
    product = uses[0].output if alone and _is_plain_product(uses[0]) else None
    return GraphWeight(name, matrix, shape, operator, columns_first, product)


def _reads_columns_first(use: Use) -> bool:
    product = use.operator == "MatMul" or (
        use.operator == "Gemm" and not use.attributes.get("transB", 0)
    )
    return product and use.place == 1 and use.directly


def _is_plain_product(use: Use) -> bool:
    """Whether an operator is `x W + b` of this weight, and nothing else."""
    if use.operator not in ("MatMul", "Gemm") or use.place != 1 or not use.directly:
        return False
    factors = use.attributes.get("alpha", 1.0), use.attributes.get("beta", 1.0)
    return factors == (1.0, 1.0) and not use.attributes.get("transA", 0)


@dataclass
class _Rewriting:
    """What takes the place of constants and products, by the name of their output."""

    constants: dict[str, list[NodeProto]] = field(default_factory=dict)
    products: dict[str, list[NodeProto]] = field(default_factory=dict)

    def graph(self, graph: GraphProto) -> None:
        """Rewrite a graph and those inside it."""
        own = [tensor for tensor in graph.initializer if tensor.name in self.constants]
        nodes = [node for tensor in own for node in self.constants[tensor.name]]
        for node in graph.node:
            for inner in subgraphs(node):
                self.graph(inner)
            nodes += self._instead(node)
        dropped = {tensor.name for tensor in own}
        dropped |= {name for name in self.constants if not self.constants[name]}
        for values in (graph.initializer, graph.input):
            kept = [value for value in values if value.name not in dropped]
            del values[:]
            values.extend(kept)
        del graph.node[:]
        graph.node.extend(nodes)

    def _instead(self, node: NodeProto) -> Sequence[NodeProto]:
        name = node.output[0] if node.output else ""
        if constant_of(node) is not None and name in self.constants:
            return self.constants[name]
        return self.products.get(name, [node])


def with_weights(
    found: GraphWeights, matrices: Mapping[str, Matrix]
) -> tuple[ModelProto, Sequence[Form]]:
    """The graph with these matrices in place of the weights of these names, biases rounded to
    float16, and how each stands in the file."""
    proto = copy.deepcopy(found.proto)
    graph = Graph()
    weights, rewriting = Weights(graph), _Rewriting()
    products = {node.output[0]: node for node in all_nodes(proto.graph) if node.output}
    prefix = _free_prefix(proto)
    by_name = {weight.name: weight for weight in found.weights}
    for number, (name, matrix) in enumerate(matrices.items()):
        graph.place, start = f"{prefix}{number}", len(graph.operators)
        weight = by_name[name]
        node = None if weight.product is None else products[weight.product]
        if node is None:
            _add(graph, weights, weight, matrix, None, None)
            rewriting.constants[name] = graph.nodes(start)
        else:
            bias = node.input[2] if len(node.input) > 2 else None
            _add(graph, weights, weight, matrix, node.input[0], bias)
            rewriting.constants[name] = []
            rewriting.products[node.output[0]] = graph.nodes(start)
    graph.place = f"{prefix}b"
    for name, values in found.biases.items():
        start = len(graph.operators)
        graph.output(name, weights.vector(name, values.astype(np.float16).astype(np.float32)))
        rewriting.constants[name] = graph.nodes(start)
    rewriting.graph(proto.graph)
    proto.graph.initializer.extend(graph.initializers())
    _import_domains(proto, graph)
    return proto, weights.forms


def _add(
    graph: Graph,
    weights: Weights,
    weight: GraphWeight,
    matrix: Matrix,
    x: str | None,
    bias: str | None,
) -> None:
    """Operators that give the weight, or its product with `x` where that is what reads it."""
    if weight.product is not None and x is not None:
        y = weights.times(x, weight.name, matrix)
        graph.output(weight.product, graph.op("Add", y, bias) if bias else y)
        return
    values = weights.values(weight.name, matrix)
    if weight.columns_first:
        values = graph.transpose(values, 1, 0)
    graph.output(weight.name, graph.reshape(values, *weight.shape))


def _free_prefix(proto: ModelProto) -> str:
    """The beginning of names that no name of the graph has."""
    names = {name for node in all_nodes(proto.graph) for name in (*node.input, *node.output)}
    prefix = PREFIX
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _import_domains(proto: ModelProto, graph: Graph) -> None:
    from onnx import helper

    known = {each.domain for each in proto.opset_import}
    if CONTRIBUTED in graph.domains() and CONTRIBUTED not in known:
        proto.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))

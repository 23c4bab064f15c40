"""ONNX graphs that are only partly layers of ours, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIZE, HIDDEN, HEADS = 24, 32, 40


def array(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values of the variance that keeps signals at one size."""
    values = np.random.default_rng(seed + sum(shape)).standard_normal(shape) / shape[-1] ** 0.5
    return values.astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    shape: Sequence[int | str],
    *,
    opset: int = 13,
    rank: int = 2,
    also_inputs: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model from `x` of this shape to `y` of this rank, with these constants."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, arrays[name].shape)
        for name in also_inputs
    ]
    constants = [numpy_helper.from_array(values, name) for name, values in arrays.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{i}" for i in range(rank)])
    inside = helper.make_graph(nodes, "graph", inputs, [output], constants)
    return helper.make_model(
        inside, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(9, opset)
    )


def attention(**options: Any) -> onnx.ModelProto:
    """An LSTM, attention over all frames with an added table of places, and a dense layer."""
    node = helper.make_node
    arrays = {
        "lstm.w": array(1, 4 * HIDDEN, SIZE),
        "lstm.r": array(1, 4 * HIDDEN, HIDDEN),
        "lstm.b": array(1, 8 * HIDDEN),
        "/attention/query": array(HIDDEN, HEADS, seed=1),
        "/attention/key": array(HIDDEN, HEADS, seed=2),
        "/attention/value": array(HIDDEN, HEADS, seed=3),
        "places": array(64, HIDDEN),
        "dense.w": array(50, HEADS),
        "dense.b": array(50),
        "count": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
    }
    nodes = [
        node("LSTM", ["x", "lstm.w", "lstm.r", "lstm.b"], ["states"], hidden_size=HIDDEN),
        node("Squeeze", ["states", "count"], ["flat"]),
        node("Squeeze", ["flat", "count"], ["frames"]),
        node("Shape", ["frames"], ["shape"]),
        node("Slice", ["shape", "zero", "count"], ["length"]),
        node("Slice", ["places", "zero", "length"], ["used"]),
        node("Add", ["frames", "used"], ["placed"]),
        *(node("MatMul", ["placed", f"/attention/{n}"], [n]) for n in ("query", "key", "value")),
        node("Transpose", ["key"], ["columns"], perm=[1, 0]),
        node("MatMul", ["query", "columns"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "value"], ["heard"]),
        node("Gemm", ["heard", "dense.w", "dense.b"], ["y"], transB=1),
    ]
    return graph(nodes, arrays, ["frames", 1, SIZE], **options)


def in_branches() -> onnx.ModelProto:
    """Convolutions in the branches of an If: one weight from outside, one that is a Constant, cut
    in two; then a product by a transposed weight."""
    node = helper.make_node
    inner = numpy_helper.from_array(array(32, 24, 3, seed=4), "inner")
    branches = {}
    for name, nodes in {
        "then_branch": [node("Conv", ["x", "outer"], ["then"])],
        "else_branch": [
            node("Constant", [], ["inner"], value=inner),
            node("Split", ["inner"], ["half", "other"], axis=0),
            node("Concat", ["other", "half"], ["turned"], axis=0),
            node("Conv", ["x", "turned"], ["else"]),
        ],
    }.items():
        name_out = nodes[-1].output[0]
        output = helper.make_tensor_value_info(name_out, TensorProto.FLOAT, ["a", "b", "c"])
        branches[name] = helper.make_graph(nodes, name, [], [output])
    arrays = {
        "outer": array(32, 24, 3),
        "across": array(48, 32, seed=5),
        "limit": np.array(0, np.float32),
    }
    nodes = [
        node("ReduceMean", ["x"], ["mean"], keepdims=0),
        node("Less", ["mean", "limit"], ["low"]),
        node("If", ["low"], ["heard"], **branches),
        node("Transpose", ["heard"], ["rows"], perm=[0, 2, 1]),
        node("Transpose", ["across"], ["along"], perm=[1, 0]),
        node("MatMul", ["rows", "along"], ["y"]),
    ]
    return graph(nodes, arrays, [1, 24, "frames"], rank=3)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The output by ONNX Runtime."""
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


def kinds(proto: onnx.ModelProto) -> list[str]:
    """The operators of a graph, in their order."""
    return [node.op_type for node in proto.graph.node]

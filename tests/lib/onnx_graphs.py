"""ONNX files for tests: exported from modules, or written operator by operator; what they give."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from tinyvox.executor import Executor
from tinyvox.importers import load
from tinyvox.model import Model

Array = NDArray[np.float32]
FEATURES = 6


def weights(*shape: int, seed: int = 0, scale: float = 0.4) -> Array:
    generator = np.random.default_rng((seed, *shape))
    return (generator.standard_normal(shape) * scale).astype(np.float32)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    shape: Sequence[int | str] = (1, "time", FEATURES),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    inputs: Sequence[onnx.ValueInfoProto] = (),
) -> Path:
    """A file with these operators; `x` is its input, of this shape."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "graph", [x, *inputs], ends, held)
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def export(
    module: nn.Module,
    path: Path,
    example: Tensor | None = None,
    dynamo: bool = False,
    **options: object,
) -> Path:
    """A module as torch exports it, for any number of frames in dimension 1."""
    example = torch.randn(1, 7, FEATURES) if example is None else example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            time = {1: torch.export.Dim("time", min=2, max=4096)}
            options = {"dynamic_shapes": (time,)} | options
        else:
            names = {"input_names": ["x"], "output_names": ["y"]}
            options = {**names, "dynamic_axes": {"x": {1: "time"}}, "opset_version": 17} | options
        torch.onnx.export(module.eval(), (example,), path, dynamo=dynamo, verbose=False, **options)
    return path


def original(path: Path, features: Tensor) -> Tensor:
    """The first output of ONNX Runtime, for the first input."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: features.numpy()})
    return torch.from_numpy(np.asarray(found[0]))


def given(model: Model, features: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = Executor(model)(features)
    return result


def assert_parity(path: Path, *frames: int, tolerance: float = 2e-6) -> Model:
    """Import a file with inputs [1, frames, features], and compare it with ONNX Runtime."""
    model = load(path)
    for count in frames or (7, 23):
        features = torch.randn(1, count, model.input_size)
        expected = original(path, features)
        found = given(model, features).reshape(expected.shape)
        assert float((found - expected).abs().max()) <= tolerance
    return model

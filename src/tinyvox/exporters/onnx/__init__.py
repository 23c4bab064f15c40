"""Models as ONNX files, and the weights of ONNX files of others."""

from tinyvox.exporters.onnx.export import export_onnx, onnx_model
from tinyvox.exporters.onnx.rewriting import GraphWeight, GraphWeights, find_weights, with_weights
from tinyvox.exporters.onnx.tensors import read_onnx

__all__ = [
    "GraphWeight",
    "GraphWeights",
    "export_onnx",
    "find_weights",
    "onnx_model",
    "read_onnx",
    "with_weights",
]

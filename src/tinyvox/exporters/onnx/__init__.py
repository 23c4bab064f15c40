"""Models as ONNX files."""

from tinyvox.exporters.onnx.export import export_onnx, onnx_model
from tinyvox.exporters.onnx.weights import Form

__all__ = ["Form", "export_onnx", "onnx_model"]

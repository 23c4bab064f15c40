"""Models as ONNX files."""

from tinyvox.exporters.onnx.export import export_onnx, onnx_model

__all__ = ["export_onnx", "onnx_model"]

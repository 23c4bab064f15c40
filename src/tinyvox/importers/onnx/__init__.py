"""ONNX files as tapes."""

from tinyvox.importers.onnx.importer import load_onnx

__all__ = ["load_onnx"]

"""ONNX files as tapes."""

from tinyvox.importers.onnx.file import data_files
from tinyvox.importers.onnx.importer import load_onnx

__all__ = ["data_files", "load_onnx"]

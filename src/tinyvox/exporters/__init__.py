"""Models written as files of other tools."""

from tinyvox.exporters.files import EXPORTERS, Exporter
from tinyvox.exporters.forms import Form
from tinyvox.exporters.onnx import (
    GraphWeight,
    GraphWeights,
    export_onnx,
    find_weights,
    onnx_model,
    read_onnx,
    with_weights,
)
from tinyvox.exporters.packages import needs
from tinyvox.exporters.pt2 import export_program, export_pt2, export_with_card
from tinyvox.exporters.safetensors import export_safetensors

__all__ = [
    "EXPORTERS",
    "Exporter",
    "Form",
    "GraphWeight",
    "GraphWeights",
    "export_onnx",
    "export_program",
    "export_pt2",
    "export_safetensors",
    "export_with_card",
    "find_weights",
    "needs",
    "onnx_model",
    "read_onnx",
    "with_weights",
]

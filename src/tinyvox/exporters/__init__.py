"""Models written as files of other tools."""

from tinyvox.exporters.files import EXPORTERS, Exporter
from tinyvox.exporters.forms import Form
from tinyvox.exporters.onnx import export_onnx, onnx_model
from tinyvox.exporters.packages import needs
from tinyvox.exporters.pt2 import export_program, export_pt2, export_with_card
from tinyvox.exporters.safetensors import export_safetensors

__all__ = [
    "EXPORTERS",
    "Exporter",
    "Form",
    "export_onnx",
    "export_program",
    "export_pt2",
    "export_safetensors",
    "export_with_card",
    "needs",
    "onnx_model",
]

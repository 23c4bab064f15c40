"""Each ONNX operator as what it comes to in PyTorch's operators.

A translator takes an `Operation` and gives its outputs, values or constants.
"""

from tinyvox.importers.onnx.operators.arithmetic import ARITHMETIC
from tinyvox.importers.onnx.operators.layers import LAYERS
from tinyvox.importers.onnx.operators.plumbing import PLUMBING, Translator
from tinyvox.importers.onnx.operators.quantized import QUANTIZED
from tinyvox.importers.onnx.operators.recurrent import RECURRENT

TRANSLATORS: dict[str, Translator] = {
    **PLUMBING,
    **ARITHMETIC,
    **LAYERS,
    **RECURRENT,
    **QUANTIZED,
}
"""The translator of every operator, by its name. Those of ONNX Runtime have names of their own."""

__all__ = ["TRANSLATORS"]

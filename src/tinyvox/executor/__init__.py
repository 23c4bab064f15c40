"""A model as a torch module, and back."""

from tinyvox.executor.activations import ELEMENTWISE
from tinyvox.executor.counts import span_of
from tinyvox.executor.executor import Executor, output_frames
from tinyvox.executor.frames import Frames
from tinyvox.executor.parametrize import DenseWeight, ProductWeight, Rounding
from tinyvox.executor.precision import quick_products

__all__ = [
    "DenseWeight",
    "ELEMENTWISE",
    "Executor",
    "Frames",
    "ProductWeight",
    "Rounding",
    "output_frames",
    "quick_products",
    "span_of",
]

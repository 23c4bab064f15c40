"""A model as a torch module, and back."""

from tinyvox.executor.executor import Executor, output_frames
from tinyvox.executor.modules import Frames
from tinyvox.executor.parametrize import DenseWeight, ProductWeight

__all__ = ["DenseWeight", "Executor", "Frames", "ProductWeight", "output_frames"]

"""A model as a torch module, and back."""

from tinyvox.executor.executor import Executor
from tinyvox.executor.modules import Frames
from tinyvox.executor.parametrize import DenseWeight, ProductWeight

__all__ = ["DenseWeight", "Executor", "Frames", "ProductWeight"]

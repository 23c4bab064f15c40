"""PyTorch modules and `.pt2` files as models."""

from tinyvox.importers.torch.importer import load_pt2
from tinyvox.importers.torch.module import from_torch

__all__ = ["from_torch", "load_pt2"]

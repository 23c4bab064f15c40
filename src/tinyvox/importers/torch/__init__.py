"""PyTorch modules and `.pt2` files as models."""

from tinyvox.importers.torch.importer import from_torch, load_pt2

__all__ = ["from_torch", "load_pt2"]

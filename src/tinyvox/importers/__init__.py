"""Foreign model files as models."""

from tinyvox.importers.loading import load
from tinyvox.importers.torch import from_torch, load_pt2

__all__ = ["from_torch", "load_pt2", "load"]

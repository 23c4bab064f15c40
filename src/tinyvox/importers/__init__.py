"""Model files of other tools as models; `load` opens every file that tinyvox reads."""

from tinyvox.importers.keras import load_keras
from tinyvox.importers.loading import IMPORTERS, load
from tinyvox.importers.torch import from_torch, load_pt2

__all__ = ["IMPORTERS", "from_torch", "load", "load_keras", "load_pt2"]

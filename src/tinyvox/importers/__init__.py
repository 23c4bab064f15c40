"""Model files of other tools as models; `load` opens every file that tinyvox reads."""

from tinyvox.importers.keras import load_keras
from tinyvox.importers.loading import IMPORTERS, bytes_on_disk, load, model_files
from tinyvox.importers.torch import from_torch, load_pt2

__all__ = [
    "IMPORTERS",
    "bytes_on_disk",
    "from_torch",
    "load",
    "load_keras",
    "load_pt2",
    "model_files",
]

"""tinyvox makes trained recurrent speech models small, and runs the small file.

    import tinyvox as tv

    model = tv.load("model.pt2")
    small = tv.compress(model, tv.plan(model, ratio=20))
    tv.save(small, "model.tvx")
    text = tv.open("model.tvx").transcribe(samples)

`open`, `Session`, `Stream` and `FeatureStream` need numpy alone. The others need
`tinyvox[compress]`, and are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tinyvox.runtime import FeatureStream, Session, Stream, open

if TYPE_CHECKING:
    from tinyvox.execute import Executor
    from tinyvox.files import load
    from tinyvox.importers.torch import from_torch
    from tinyvox.observe import observe
    from tinyvox.packfile import save
    from tinyvox.passes import compress
    from tinyvox.plan import plan
    from tinyvox.pruner import Pruner
    from tinyvox.recipe import GradualPruning

__version__ = "0.1.0"
__all__ = [
    "Executor", "FeatureStream", "GradualPruning", "Pruner", "Session", "Stream", "compress",
    "from_torch", "load", "observe", "open", "plan", "save",
]  # fmt: skip

_LATER = {
    "Executor": "execute",
    "GradualPruning": "recipe",
    "Pruner": "pruner",
    "compress": "passes",
    "from_torch": "importers.torch",
    "load": "files",
    "observe": "observe",
    "plan": "plan",
    "save": "packfile",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'tinyvox' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"tinyvox.{_LATER[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tinyvox.{name} needs {error.name!r}; pip install 'tinyvox[compress]'"
        ) from error
    return getattr(module, name)

"""tinyvox makes trained recurrent speech models small, and runs the small file.

    import tinyvox as tv

    model = tv.load("model.pt2")
    result = tv.compress(model, ratio=50, data="speech.jsonl")
    result.save("model.tvx")
    text = tv.open("model.tvx").transcribe(samples)

`open`, `Session`, `Stream`, `FeatureStream`, `LanguageModel` and the errors need numpy alone. The
other names need `tinyvox[compress]`, and are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tinyvox.errors import (
    DataError,
    FileError,
    ImporterError,
    ModelError,
    RecipeError,
    TinyvoxError,
)
from tinyvox.language_model import LanguageModel
from tinyvox.runtime import FeatureStream, Session, Stream, open

if TYPE_CHECKING:
    from tinyvox.calibration import Calibration
    from tinyvox.executor import Executor
    from tinyvox.formats.tvx import save
    from tinyvox.importers import from_torch, load
    from tinyvox.model import Model, SpeechCard
    from tinyvox.recipe import GradualPruning, Recipe, load_recipe
    from tinyvox.training import Pruner
    from tinyvox.workflow import compress, evaluate, export, finetune, plan

__version__ = "0.1.0"
__all__ = [
    "Calibration", "DataError", "Executor", "FeatureStream", "FileError", "GradualPruning",
    "ImporterError", "LanguageModel",
    "Model", "ModelError", "Pruner", "Recipe", "RecipeError", "Session",
    "SpeechCard", "Stream", "TinyvoxError", "compress", "evaluate", "export", "finetune",
    "from_torch", "load", "load_recipe", "open", "plan", "save",
]  # fmt: skip

_LATER = {
    "Calibration": "calibration",
    "Executor": "executor",
    "GradualPruning": "recipe",
    "Model": "model",
    "Pruner": "training",
    "Recipe": "recipe",
    "SpeechCard": "model",
    "compress": "workflow",
    "evaluate": "workflow",
    "export": "workflow",
    "finetune": "workflow",
    "from_torch": "importers",
    "load": "importers",
    "load_recipe": "recipe",
    "plan": "workflow",
    "save": "formats.tvx",
}
"""The package that a name is imported from when it is first used. No name is a package's own."""


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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

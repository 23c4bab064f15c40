"""`.h5` and `.keras` files as models. Keras is not needed, and no code in a file is ever run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tinyvox.errors import ImporterError
from tinyvox.model import Model


def load_keras(path: Path) -> Model:
    """Import a whole model that Keras saved: `.h5` of Keras 1 and 2, `.keras` of Keras 3.

    Its JSON and its arrays are read; Python code in a file (a Lambda layer) is never run. What is
    left out, such as dropout, masks and a CTC loss, is in the provenance under `import_notes`.
    Raises ImporterError or ModelError with the file's name.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ImporterError(
            f"{path}: reading a Keras file takes the package h5py, which is not installed; "
            "pip install h5py, or pip install 'tinyvox[keras]'"
        )
    from tinyvox.importers.keras.assembly import read_model

    return read_model(path)

"""A model written as a file of another tool."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyvox.errors import FileError, RecipeError
from tinyvox.exporters import EXPORTERS, Exporter, needs
from tinyvox.formats import tvx
from tinyvox.importers import load
from tinyvox.model import Model, card_path, load_card
from tinyvox.storage import check_apart, check_output
from tinyvox.workflow.arguments import check_model, path_of


def _checked(path: Path, inputs: list[Path]) -> Exporter:
    """What writes this file. Raises FileError where it cannot be written."""
    check_output(path, tuple(EXPORTERS))
    exporter = EXPORTERS[path.suffix.lower()]
    needs(exporter.package, path)
    beside = {"the speech card": card_path(path)} if exporter.card_beside else {}
    check_apart({"the model": path, **beside}, inputs)
    return exporter


def _check_card(model: Model, path: Path, exporter: Exporter) -> None:
    """Raise FileError where a speech card that is not the model's would be read with the file."""
    beside = card_path(path)
    replaced = exporter.card_beside and model.card is not None
    if replaced or not beside.exists():
        return
    if model.card is None or load_card(beside) != model.card:
        raise FileError(
            f"{beside}: is not the speech card of this model, but would be read with {path.name}; "
            "remove it, name another output, or give it as the model's card"
        )


def export(
    model: Model | Path | str, output: Path | str, *, card: Path | str | None = None
) -> dict[str, Any]:
    """Write a model, or that of a file, as `.onnx`, `.safetensors` or `.pt2`, by the suffix.

    An ONNX file computes what the model computes, for one utterance of any number of frames:
    features [1, frames, size] to outputs. `.safetensors` has the tensors alone. Matrices keep their
    codes and their factors in both; in `.pt2` they are float32.

    Returns `file`, `file_bytes`, `tvx_bytes` (those of the .tvx file), `tensors`, a list with
    `name`, `form` and `bytes` of each, and `notes`, a list of lines on what the file cannot do that
    the model can: PyTorch fixes batch and frames of a `.pt2` file with recurrent layers. Raises
    FileError, before the work, where the output cannot be written or a package is missing, and the
    errors of `load` where the model cannot be read.
    """
    path, source = path_of("output", output), path_of("card", card)
    if path is None:
        raise RecipeError("output is None, expected a path")
    given = Path(model) if isinstance(model, Path | str) else None
    exporter = _checked(path, [p for p in (given, source) if p is not None])
    opened = model if given is None else load(given, source)
    check_model("model", opened)
    assert isinstance(opened, Model)
    opened.check_length()
    _check_card(opened, path, exporter)
    forms = exporter.write(opened, path)
    return {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "tvx_bytes": tvx.size(opened),
        "tensors": [asdict(form) for form in forms],
        "notes": list(exporter.notes(opened)),
    }

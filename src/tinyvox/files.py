"""Models in, descriptions out: where the importers and the packed file meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox import importers
from tinyvox.errors import FileError
from tinyvox.formats import tvx
from tinyvox.model import Dense, Model, card_path, leaves, load_card
from tinyvox.recipe import Recipe, rule_of

BYTES_A_PARAMETER = 4
"""Sizes of originals are counted as float32."""


def load(path: Path | str, speech: Path | None = None) -> Model:
    """A model from a .tvx file or any format of the importers, with its speech card.

    The card is `speech`, or the one in the file, or `NAME.speech.yaml` beside it, or none. Raises
    FileError or ImporterError with the path.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: no such file")
    card = load_card(speech) if speech is not None else None
    if path.suffix == ".tvx":
        model = tvx.load(path)
    else:
        if card is None and card_path(path).exists():
            card = load_card(card_path(path))
        model = importers.load(path)
    return model if card is None else model.with_card(card)


def left_float(model: Model) -> list[str]:
    """Full names of the matrices that still hold float32 values."""
    return [
        name
        for name, matrix in model.matrices()
        if any(isinstance(leaf, Dense) for leaf in leaves(matrix))
    ]


def describe_file(path: Path, model: Model) -> dict[str, Any]:
    """The keys that `compress` and `inspect` print; the bytes of `tensors` and `overhead` add up
    to `file_bytes`."""
    rows = tvx.sizes(path)
    tensors = [_row(row) | _coding(row, model) for row in rows if row.shape]
    return _facts(path, model, tensors, [_row(row) for row in rows if not row.shape])


def _row(row: tvx.Row) -> dict[str, Any]:
    shape = list(row.shape) or None
    facts = {"name": row.name, "shape": shape, "kind": row.kind}
    return {**facts, "bits_per_weight": row.bits_per_weight, "bytes": row.bytes}


def _coding(row: tvx.Row, model: Model) -> dict[str, Any]:
    """How a coded tensor was coded, as the file's recipe tells, and what it cost: the relative
    squared error of the whole matrix against the original's, where it was measured."""
    if row.code_bits is None:
        return {}
    name = row.name
    while name.endswith((".left", ".right")):
        name = name.rpartition(".")[0]
    errors = model.provenance.get("errors", {})
    return {
        "method": _method(name, row, model),
        "code_bits": row.code_bits,
        "coded_bits": row.coded_bits,
        "relative_mse": errors.get(name) if isinstance(errors, dict) else None,
    }


def _method(name: str, row: tvx.Row, model: Model) -> str | None:
    """What the recipe says; k-means where a matrix was too small for codes by price."""
    try:
        rule = rule_of(Recipe.model_validate(model.provenance.get("recipe")), name)
    except ValidationError:
        return None
    if rule is None:
        return None
    return "kmeans" if rule.entropy_constrained and row.codebook == "table" else rule.method


def describe_model(path: Path, model: Model) -> dict[str, Any]:
    """The same keys for a model that is not packed; its matrices count as float32."""
    tensors = [
        {
            "name": name,
            "shape": list(matrix.shape),
            "kind": type(matrix).__name__.lower(),
            "bits_per_weight": 32.0,
            "bytes": BYTES_A_PARAMETER * matrix.shape[0] * matrix.shape[1],
        }
        for name, matrix in model.matrices()
    ]
    return _facts(path, model, tensors, [])


def _facts(
    path: Path, model: Model, tensors: list[dict[str, Any]], overhead: list[dict[str, Any]]
) -> dict[str, Any]:
    file_bytes = path.stat().st_size
    original = BYTES_A_PARAMETER * model.original_parameters
    return {
        "file": str(path),
        "file_bytes": file_bytes,
        "original_bytes": original,
        "ratio": original / file_bytes,
        "parameters": model.count_parameters(),
        "tensors": tensors,
        "overhead": overhead,
        "left_float": left_float(model),
    }

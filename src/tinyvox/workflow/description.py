"""A model, or a .tvx file, as the facts that `compress` and `inspect` print.

The keys are a contract: other programs read them from the JSON output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tinyvox.formats import tvx
from tinyvox.importers import bytes_on_disk
from tinyvox.model import Coded, Dense, Model, leaves
from tinyvox.planner import Plan
from tinyvox.recipe import Recipe, rule_of
from tinyvox.workflow.matrices import Shapes, matrix_rows, stages

BYTES_A_PARAMETER = 4
"""The size of an original is counted as float32."""


def judged_by(model: Model) -> str:
    """What tells whether a compressed form of a model is good."""
    if model.card is not None:
        return "word errors on speech, and the distance of the outputs from the original's"
    return (
        "the distance of the outputs from the original's, as there is no speech card: on features "
        f"that you give (--data FEATURES.npz, arrays [frames, {model.input_size}]), else on random "
        "ones, which say little"
    )


def left_float(model: Model) -> list[str]:
    """Full names of the matrices that still hold float32 values."""
    return [
        name
        for name, matrix in model.matrices()
        if any(isinstance(leaf, Dense) for leaf in leaves(matrix))
    ]


def describe_file(
    path: Path,
    model: Model,
    made_from: Path | None = None,
    *,
    shapes: Shapes | None = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """The facts of a .tvx file that holds this model, and was `made_from` another file.

    `shapes` are those of the original's matrices, and `plan` has measured what each costs, where
    they are known. The bytes of `tensors` and `overhead` add up to `file_bytes`. Raises FileError.
    """
    rows = tvx.sizes(path)
    tensors = [_row(row) | _coding(row, model) for row in rows if row.shape]
    facts = _facts(path, model, tensors, [_row(row) for row in rows if not row.shape])
    facts["matrices"] = matrix_rows(model, tensors, shapes or {}, plan)
    return facts | {"model_bytes": None if made_from is None else bytes_on_disk(made_from)}


def _row(row: tvx.Row) -> dict[str, Any]:
    shape = list(row.shape) or None
    facts = {"name": row.name, "shape": shape, "kind": row.kind}
    return {**facts, "bits_per_weight": row.bits_per_weight, "bytes": row.bytes}


def _coding(row: tvx.Row, model: Model) -> dict[str, Any]:
    """How a quantized tensor was coded, and the relative squared error of its whole matrix.

    The method comes from the recipe in the file. The error is None where it was not measured.
    """
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
    """The method that the recipe names.

    It is k-means instead where a matrix was too small for entropy-constrained codes.
    """
    try:
        rule = rule_of(Recipe.model_validate(model.provenance.get("recipe")), name)
    except ValidationError:
        return None
    if rule is None:
        return None
    return "kmeans" if rule.entropy_constrained and row.codebook == "table" else rule.method


def describe_model(path: Path, model: Model) -> dict[str, Any]:
    """The same facts of a model in another file.

    Its matrices are counted as float32, or as their codes where it holds them quantized.
    """
    tensors = []
    for name, matrix in model.matrices():
        bits = matrix.bits if isinstance(matrix, Coded) else 8 * BYTES_A_PARAMETER
        row = {
            "name": name,
            "shape": list(matrix.shape),
            "kind": type(matrix).__name__.lower(),
            "bits_per_weight": float(bits),
            "bytes": -(-bits * matrix.shape[0] * matrix.shape[1] // 8),
        }
        tensors.append(row | ({"code_bits": bits} if isinstance(matrix, Coded) else {}))
    return _facts(path, model, tensors, [])


def _facts(
    path: Path, model: Model, tensors: list[dict[str, Any]], overhead: list[dict[str, Any]]
) -> dict[str, Any]:
    file_bytes = bytes_on_disk(path)
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
        "judged_by": judged_by(model),
        "source": model.provenance.get("source"),
        "exported_frames": model.provenance.get("exported_frames"),
        "quantized": bool(model.provenance.get("quantized")),
        "import_notes": list(model.provenance.get("import_notes", ())),
        "stages": stages(model, file_bytes),
        "matrices": matrix_rows(model, tensors, {}),
        "recipe": model.provenance.get("recipe"),
    }

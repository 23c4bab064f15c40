"""What became of the bytes of a model: stage by stage, and matrix by matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, isfinite, prod
from typing import Any

from tinyvox.model import Model, Product
from tinyvox.planner import Plan

Shapes = Mapping[str, tuple[int, int]]
BYTES = 4
"""Of a parameter, until it is coded."""


def stages(model: Model, file_bytes: int) -> list[dict[str, Any]]:
    """The bytes of the original, after units were removed, after matrices became products, and of
    the file in the end. Where nothing was removed, the bytes stay."""
    whole = sum(prod(matrix.shape) for _, matrix in model.matrices())
    whole += sum(vector.numel() for _, vector in model.vectors())
    counts = {
        "original": model.original_parameters,
        "pruned": min(whole, model.original_parameters),
        "factored": model.count_parameters(),
    }
    found = [{"name": name, "bytes": BYTES * count} for name, count in counts.items()]
    return [*found, {"name": "coded", "bytes": file_bytes}]


def matrix_rows(
    model: Model,
    tensors: Sequence[Mapping[str, Any]],
    shapes: Shapes,
    plan: Plan | None = None,
) -> list[dict[str, Any]]:
    """What was done to each matrix; `tensors` are those of its file.

    `shapes` are the original's. Without them, those of a model that lost no unit are its own. Only
    a plan has measured what each matrix costs.
    """
    if not shapes and _is_whole(model):
        shapes = {name: matrix.shape for name, matrix in model.matrices()}
    losses = _losses(plan)
    total = fsum(losses.values())
    rows = []
    for name, matrix in model.matrices():
        own = [row for row in tensors if _is_of(row["name"], name)]
        loss = losses.get(name)
        original = shapes.get(name)
        rows.append(
            {
                "name": name,
                "shape": list(matrix.shape),
                "original_shape": None if original is None else list(original),
                "rank": matrix.rank if isinstance(matrix, Product) else None,
                "coded_bits": _coded_bits(own),
                "weights": sum(prod(row["shape"]) for row in own),
                "bytes": sum(row["bytes"] for row in own),
                "relative_mse": next((e for r in own if (e := r.get("relative_mse"))), None),
                "loss": loss,
                "loss_share": loss / total if loss is not None and total > 0 else None,
            }
        )
    return rows


def _is_whole(model: Model) -> bool:
    """Whether no unit was removed."""
    pruned: int = stages(model, 0)[1]["bytes"]
    return pruned == BYTES * model.original_parameters


def _is_of(tensor: str, matrix: str) -> bool:
    """Whether a tensor is a matrix, or a factor of it."""
    while tensor != matrix and tensor.endswith((".left", ".right")):
        tensor = tensor.rpartition(".")[0]
    return tensor == matrix


def _losses(plan: Plan | None) -> dict[str, float]:
    """What each matrix costs alone; a measurement below zero is noise, and costs nothing."""
    if plan is None:
        return {}
    return {row.name: max(0.0, row.measured) for row in plan.rows if isfinite(row.measured)}


def _coded_bits(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean bits of a code over all codes."""
    coded = [row for row in rows if row.get("coded_bits") is not None]
    weights = sum(prod(row["shape"]) for row in coded)
    if not weights:
        return None
    return float(fsum(row["coded_bits"] * prod(row["shape"]) for row in coded) / weights)

"""Where the bytes of a file are, and where those of the original went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tinyvox.report.subjects import SIZE, Subject
from tinyvox.report.treemap import Box, Part, treemap
from tinyvox.report.values import Value

FACTORS = (".left", ".right")
STEPS = {
    "original": "the original, 4 bytes for each parameter",
    "pruned": "after whole units were removed",
    "factored": "after matrices became products of two",
    "coded": "after values became codes: the file",
}
"""What stands after each step."""
BYTES = 4
"""Of a parameter that is not coded."""
KINDS = ("coded", "dense", "vector", "other")
"""What may hold bytes: `dense` is float32, `other` what holds no weights."""


@dataclass(frozen=True)
class StepRow:
    """A step: its name, what it is, the bytes after it, and the share of the original's."""

    name: str
    what: str
    bytes: Value
    share: float


def by_layer(subject: Subject) -> list[Box]:
    """The treemap of a file: each tensor, those of a layer together, and the sections."""
    groups: dict[str, list[Part]] = defaultdict(list)
    for row in subject.get(SIZE, "tensors") or ():
        groups[_layer(row["name"])].append(Part(row["name"], _kind(row), row["bytes"]))
    for row in subject.get(SIZE, "overhead") or ():
        group = row["name"] if row["kind"] == "layer" else "\0sections"
        groups[group].append(Part(_section(row), "other", row["bytes"]))
    return treemap(list(groups.values()))


def _layer(name: str) -> str:
    return name.split(".")[0]


def _kind(row: Mapping[str, Any]) -> str:
    return row["kind"] if row["kind"] in KINDS else "dense"


def _section(row: Mapping[str, Any]) -> str:
    return f"{row['name']} (settings of the layer)" if row["kind"] == "layer" else row["name"]


def steps(subject: Subject) -> list[StepRow]:
    """The bytes after each kind of step."""
    rows = []
    for place, step in enumerate(subject.get(SIZE, "stages") or ()):
        value = subject.number(SIZE, f"stages.{place}.bytes", "bytes")
        first = subject.get(SIZE, "stages.0.bytes")
        assert value is not None
        what = STEPS.get(step["name"], "")
        rows.append(StepRow(step["name"], what, value, value.value / first if first else 0.0))
    return rows


def by_step(subject: Subject) -> list[Box]:
    """The treemap of the original: of each matrix the bytes that pruning, factoring and coding took
    away, and those that are left; then of everything else together, which coding may have made
    larger: a file has headers that the original's parameters are counted without."""
    after = {row["name"]: row["bytes"] for row in subject.get(SIZE, "stages") or ()}
    if not set(STEPS) <= set(after):
        return []
    gone = {
        "pruned": after["original"] - after["pruned"],
        "factored": after["pruned"] - after["factored"],
        "coded": after["factored"] - after["coded"],
        "left": after["coded"],
    }
    groups: list[list[Part]] = []
    for row in subject.get(SIZE, "matrices") or ():
        if row["original_shape"] is None:
            groups.clear()
            break
        groups.append(_gone(row))
    taken = _totals(groups)
    rest = {kind: max(0, size - taken.get(kind, 0)) for kind, size in gone.items()}
    parts = [Part("everything else" if groups else "the model", k, s) for k, s in rest.items()]
    return treemap([*groups, parts])


def _gone(row: Mapping[str, Any]) -> list[Part]:
    """What became of the bytes of one matrix."""
    (a, b), (m, n) = row["original_shape"], row["shape"]
    sizes = {
        "pruned": BYTES * (a * b - m * n),
        "factored": BYTES * (m * n - row["weights"]),
        "coded": BYTES * row["weights"] - row["bytes"],
        "left": row["bytes"],
    }
    return [Part(row["name"], kind, max(0, size)) for kind, size in sizes.items()]


def _totals(groups: Iterable[Iterable[Part]]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for part in (part for group in groups for part in group):
        totals[part.kind] += part.size
    return totals


@dataclass(frozen=True)
class MatrixRow:
    """A matrix in the table."""

    name: str
    shape: str
    original_shape: str
    rank: Value | None
    bits: Value | None
    bytes: Value | None
    error: Value | None
    loss: Value | None
    share: Value | None


def matrices(subject: Subject) -> list[MatrixRow]:
    """What was done to each matrix."""
    return [
        MatrixRow(
            row["name"],
            _shape(row["shape"]),
            _shape(row["original_shape"]),
            *(
                subject.number(SIZE, f"matrices.{place}.{key}", form)
                for key, form in (
                    ("rank", "count"),
                    ("coded_bits", "bits"),
                    ("bytes", "bytes"),
                    ("relative_mse", "number"),
                    ("loss", "number"),
                    ("loss_share", "share"),
                )
            ),
        )
        for place, row in enumerate(subject.get(SIZE, "matrices") or ())
    ]


def _shape(shape: list[int] | None) -> str:
    return "" if shape is None else " \u00d7 ".join(f"{size:,}" for size in shape)


@dataclass(frozen=True)
class LeftFloat:
    """A matrix that is still float32, and why."""

    name: str
    why: str


def left_in_float(subject: Subject) -> list[LeftFloat]:
    """What is still float32, each with the notes about it or its layer."""
    notes = subject.get(SIZE, "notes") or ()
    found = []
    for name in subject.get(SIZE, "left_float") or ():
        about = [n["what"] for n in notes if n["layer"] in (name, name.rpartition(".")[0])]
        found.append(LeftFloat(name, "; ".join(about) or "no note says why"))
    return found

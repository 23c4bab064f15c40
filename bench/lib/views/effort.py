"""Tables of `effort.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import SETS, Table


def tables(results: Results) -> Iterator[Table]:
    """The bundled model by effort and ratio, then large networks."""
    yield Table(
        "", "The bundled model without audio",
        ["effort", "times smaller", "seconds", "bytes", "KL", *map(_lost_on, SETS)],
        [
            [
                row["effort"], f"{row['ratio']:g}", f"{row['seconds']:.0f}", f"{row['bytes']:,}",
                f"{row['kl']:.4f}", *(f"{_change(row, name):+.1f}" for name in SETS),
            ]
            for row in results.rows["bundled"]
        ],
    )  # fmt: skip
    yield Table(
        "large", "Large networks without audio",
        ["effort", "parameters", "times smaller", "seconds", "GB at most"],
        [
            [
                row["effort"], f"{row['parameters']:,}", f"{row['ratio']:g}",
                f"{row['seconds']:.0f}", f"{row['gigabytes']:.1f}",
            ]
            for row in results.rows["large"]
        ],
    )  # fmt: skip


def _lost_on(name: str) -> str:
    return f"points of WER lost, {SETS[name]}"


def _change(row: Row, name: str) -> float:
    change: float = row["sets"][name]["change"]
    return change

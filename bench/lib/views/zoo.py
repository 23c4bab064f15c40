"""Tables of `zoo.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table

LIMIT, SECONDS = 1e-4, 120
"""How far outputs may be apart, and how long a plan may take."""


def tables(results: Results) -> Iterator[Table]:
    """Each architecture, how many there are of each outcome, and what did not work."""
    rows = results.rows["architectures"]
    yield Table(
        "", "Published architectures, as they are written",
        ["architecture", "parameters", "import, s", "MB", "difference", "spread of outputs",
         "times smaller", "in, s", "left in float"],
        [_cells(row) for row in rows],
    )  # fmt: skip
    yield Table("count", "How many", ["what", "architectures"], list(_counts(rows)))
    yield Table(
        "failed", "What did not work, and what was said",
        ["architecture", "step", "said"],
        [[row["model"], row["failed"], row["error"]] for row in rows if "failed" in row],
    )  # fmt: skip
    yield Table(
        "large", "At the width of its repository",
        ["architecture", "parameters", "import, s", "MB", "difference", "spread of outputs"],
        [_cells(row)[:6] for row in results.rows.get("large", [])],
    )  # fmt: skip
    yield Table(
        "sources", "Where they come from",
        ["architecture", "repository and file"],
        [[row["model"], row["source"]] for row in rows],
    )  # fmt: skip


def imports(row: Row) -> bool:
    """Whether an architecture imports, and gives PyTorch's outputs."""
    return "difference" in row and row["difference"] <= LIMIT


def is_made_small(row: Row) -> bool:
    """Whether it is also compressed in time, and nothing left in float without a word."""
    made = imports(row) and "small_seconds" in row
    return made and row["small_seconds"] <= SECONDS and not row["left_in_silence"]


def is_refused(row: Row) -> bool:
    """Whether one line says why it does not import, and nothing else is on the screen."""
    refused = row.get("failed") == "import" and row["meant"]
    return bool(refused and row["lines"] == 1 and row["printed"] == 0)


def _counts(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["all", str(len(rows))]
    yield [f"import as published, equal to {LIMIT:g}", str(sum(map(imports, rows)))]
    small = sum(map(is_made_small, rows))
    yield [f"made small in {SECONDS} s, nothing left in float in silence", str(small)]
    refused = sum(map(is_refused, rows))
    yield ["refused with one line", str(refused)]
    yield ["failed otherwise", str(len(rows) - sum(map(imports, rows)) - refused)]


def _cells(row: Row) -> list[str]:
    left = row.get("left_float")
    return [
        row["model"],
        f"{row['parameters']:,}" if "parameters" in row else "",
        _figure(row, "seconds", "{:.1f}", "no" if row.get("failed") == "import" else ""),
        f"{row['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in row else "",
        _figure(row, "difference", "{:.1e}"),
        _figure(row, "spread", "{:.2g}"),
        _figure(row, "small_ratio", "{:.1f}"),
        _figure(row, "small_seconds", "{:.1f}"),
        "" if left is None else ", ".join(left) or "nothing",
    ]  # fmt: skip


def _figure(row: Row, key: str, form: str, otherwise: str = "") -> str:
    return form.format(row[key]) if key in row else otherwise

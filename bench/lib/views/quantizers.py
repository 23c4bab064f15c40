"""Tables of `quantizers.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table, pivot

SHOWN = (2, 3, 4)


def tables(results: Results) -> Iterator[Table]:
    """Relative squared error of every method on normal numbers and on the bundled model; zeros."""
    yield _errors("", "N(0, 1)", results.rows["normal"])
    yield _errors("commands", "models/commands, all matrices", results.rows["commands"])
    columns, cells = pivot(
        results.rows["zeros"],
        lambda row: f"{row['zeros']:.0%}",
        lambda row: f"{row['method']}, {row['bits']:g} bits",
        lambda row: f"{row['relative_mse']:.4f} ({row['file_bits']:.2f})",
    )
    title = "Zeros: relative squared error (bits a weight in the file)"
    yield Table("zeros", title, ["zeros", *columns], cells)


def _errors(part: str, what: str, rows: Sequence[Row]) -> Table:
    columns, cells = pivot(
        [row for row in rows if row["bits"] in SHOWN],
        lambda row: str(row["method"]),
        lambda row: f"{row['bits']} bits",
        lambda row: f"{row['relative_mse']:.4f}" + _bits(row),
    )
    title = f"{what}: relative squared error (bits a weight in the file)"
    return Table(part, title, ["method", *columns], cells)


def _bits(row: Row) -> str:
    return "" if row["file_bits"] is None else f" ({row['file_bits']:.2f})"

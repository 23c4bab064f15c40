"""Tables of `lm.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import Table

COLUMNS = ["model", "bytes", "n-grams", "bytes each", "books", "speech", "mean mass"]


def tables(results: Results) -> Iterator[Table]:
    """Every model, the smallest first: bytes, and perplexities with what they rest on."""
    rows = sorted(results.rows["models"], key=lambda row: row["bytes"] or float("inf"))
    yield Table("", "Perplexity against bytes", COLUMNS, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    size, count = row["bytes"], row["ngrams"]
    cutoffs = f", cut-offs {row['cutoffs']}" if "cutoffs" in row else ""
    return [
        f"{row['method']}{cutoffs}",
        "" if size is None else f"{size:,}",
        f"{count:,}",
        "" if size is None else f"{size / count:.2f}",
        f"{row['books']:.1f}",
        f"{row['speech']:.1f}",
        f"{row['mean_mass']:.4f}",
    ]

"""Tables of `lstm_lm.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import Table, pivot

FLOAT, XU = "float32", "Xu: "
COMPENSATED, UNBIASED = ", error compensation", ", error compensation, unbiased"


def tables(results: Results) -> Iterator[Table]:
    """Perplexity more than float32 at each number of bits: plain, compensated, as published."""
    rows = [row for row in results.rows["methods"] if row["method"] != FLOAT]
    ours = [row for row in rows if not row["method"].startswith(XU)]
    plain = [row for row in ours if not row["method"].endswith((COMPENSATED, UNBIASED))]
    unbiased = [row for row in ours if row["method"].endswith(UNBIASED)]
    yield _losses("", "Perplexity more than float32 (bits a weight in the file)", plain)
    yield _losses("compensated", "The same with error compensation, unbiased", unbiased)
    yield _losses("published", "Xu et al. 2018", [r for r in rows if r["method"].startswith(XU)])


def _losses(part: str, title: str, rows: list[Row]) -> Table:
    columns, cells = pivot(
        rows,
        lambda row: str(row["method"]).removesuffix(UNBIASED),
        lambda row: f"{row['bits']} bits",
        lambda row: f"{row['loss']:+.1%}" + _bits(row),
    )
    return Table(part, title, ["method", *columns], cells)


def _bits(row: Row) -> str:
    return "" if row["file_bits"] is None else f" ({row['file_bits']:.2f})"

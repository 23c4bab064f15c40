"""Tables of `large_then_small.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import SETS, Table, points, with_interval


def tables(results: Results) -> Iterator[Table]:
    """Error rates of every file, then the large network made small against its peer."""
    files = results.rows["files"]
    yield Table(
        "", "WER, greedy (95% interval)", ["file", "bytes", *SETS.values()],
        [
            [_name(row), f"{row['bytes']:,}", *(with_interval(row[name]) for name in SETS)]
            for row in files
        ],
    )  # fmt: skip
    yield Table(
        "change", "The large network made small, less the small dense one: points of WER",
        ["file", "of its bytes", *SETS.values()],
        [
            [_name(row), f"{row['of_peer']:.1%}", *(points(row[name]) for name in SETS)]
            for row in files if row.get("of_peer") is not None
        ],
    )  # fmt: skip


def _name(row: Row) -> str:
    return f"{row['line']}, {row['title']}"

"""Utterances heard by several processes."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table

MEGABYTE = 1e6


def tables(results: Results) -> Iterator[Table]:
    """Throughput, and memory at the tenth, at most, and at the end."""
    rows = results.rows["runs"]
    heads = ["workers", "utterances", "a second", "of N times one", "seconds on the clock"]
    cells = [
        [
            str(row["workers"]), f"{row['utterances']:,}", f"{row['rate']:.0f}",
            f"{100 * row['share']:.0f}%", f"{row['clock_seconds']:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    yield Table("", "Utterances a second of processors", heads, cells)
    heads = ["workers", "utterances", "process", "MB after a tenth", "most", "at the end"]
    cells = [
        [str(row["workers"]), f"{row['utterances']:,}", who]
        + [f"{size / MEGABYTE:.0f}" for size in row[key]]
        for row in rows
        for who, key in (("parent", "parent_bytes"), ("largest worker", "worker_bytes"))
        if row["workers"] > 1 or who == "parent"
    ]
    yield Table("memory", "Memory", heads, cells)

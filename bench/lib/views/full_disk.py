"""What was said and left where a disk was full."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table


def tables(results: Results) -> Iterator[Table]:
    """Each job on each disk."""
    yield Table(
        "",
        "On a disk that is full, fills up, or is read-only",
        ["what is written", "disk", "exit status", "said", "old files", "parts left over"],
        [
            [
                row["what"],
                row["disk"],
                str(row["status"]),
                " ".join(line.removeprefix("tinyvox: ") for line in row["said"]) or "nothing",
                "stay" if row["kept"] else "damaged",
                str(row["left_over"]),
            ]
            for row in results.rows["jobs"]
        ],
    )

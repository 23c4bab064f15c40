"""Tables of `planner_speed.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table


def tables(results: Results) -> Iterator[Table]:
    """Seconds of each stage, then what it came to."""
    yield Table(
        "", "From audio to a file", ["stage", "seconds"],
        [[row["stage"], f"{row['seconds']:.1f}"] for row in results.rows["stages"]],
    )  # fmt: skip
    yield Table(
        "total", "In all",
        ["parameters", "seconds", "GB at most", "bytes", "times smaller"],
        [
            [
                f"{row['parameters']:,}", f"{row['seconds']:.0f}", f"{row['gigabytes']:.2f}",
                f"{row['bytes']:,}", f"{row['ratio']:.1f}",
            ]
            for row in results.rows["total"]
        ],
    )  # fmt: skip

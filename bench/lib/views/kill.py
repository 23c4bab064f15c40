"""What was left of jobs that were killed."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table

COLUMNS = {
    "kills": "kills",
    "writing": "while a file was written",
    "ends": "runs to the end",
    "damaged": "damaged files",
    "lost": "states lost",
    "different": "other bytes at the end",
    "left_over": "files left over",
    "failed": "failed",
}


def tables(results: Results) -> Iterator[Table]:
    """Kills of each job, and what they did."""
    rows = [[row["job"], *(f"{row[key]:,}" for key in COLUMNS)] for row in results.rows["jobs"]]
    yield Table("", "Killed at random moments", ["job", *COLUMNS.values()], rows)

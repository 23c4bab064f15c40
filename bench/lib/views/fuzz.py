"""Tables of `fuzz.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import Table

ENGINES = {
    "sanitizers": "our driver, sanitizers",
    "plain": "our driver, without them",
    "libfuzzer": "libFuzzer, sanitizers",
}
TARGETS = {"tvx": ".tvx files", "wav": "WAV files"}


def tables(results: Results) -> Iterator[Table]:
    """Inputs tried, how far they came, and faults."""
    yield Table(
        "", "Hostile inputs",
        ["engine", "inputs", "tried", "a second", "read", "ran to the end", "faults"],
        [_cells(row) for row in results.rows["campaigns"]],
    )  # fmt: skip
    yield Table(
        "total", "All hostile inputs together",
        ["tried", "hours", "faults"],
        [
            [
                f"{_sum(results, 'executions'):,.0f}",
                f"{_sum(results, 'seconds') / 3600:.1f}",
                f"{_sum(results, 'faults'):.0f}",
            ]
        ],
    )  # fmt: skip


def _cells(row: Row) -> list[str]:
    tried = max(1, row["executions"])
    return [
        ENGINES[row["engine"]],
        TARGETS[row["target"]],
        f"{row['executions']:,.0f}",
        f"{row['executions'] / max(row['seconds'], 1e-9):,.0f}",
        f"{row['read'] / tried:.0%}",
        f"{row['ran'] / tried:.0%}",
        f"{row['faults']:.0f}",
    ]


def _sum(results: Results, name: str) -> float:
    return sum(float(row[name]) for row in results.rows["campaigns"])

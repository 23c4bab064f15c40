"""Tables of `limits.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table, spread


def tables(results: Results) -> Iterator[Table]:
    """What a core reads and multiplies in a second."""
    yield Table(
        "", "What the machine can do, one thread: median (quartiles)",
        ["what", "thousand million a second"],
        [
            [row["what"], spread(row["giga_a_second"], row.get("giga_a_second_quartiles"))]
            for row in results.rows["limits"]
        ],
    )  # fmt: skip

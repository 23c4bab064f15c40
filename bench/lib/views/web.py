"""Tables of `web.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results
from lib.table import Table, spread


def tables(results: Results) -> Iterator[Table]:
    """The browser beside native."""
    yield Table(
        "", "Work for a second of audio, one thread: median (quartiles)",
        ["file", "in Chromium", "native", "share of native speed"],
        [
            [
                row["file"],
                spread(row["real_time_factor"], row["real_time_factor_quartiles"])
                + f" s, {row['isa']}",
                spread(row["native_real_time_factor"], row["native_real_time_factor_quartiles"])
                + f" s, {row['native_isa']}",
                spread(row["of_native"], row["of_native_quartiles"]),
            ]
            for row in results.rows["web"]
        ],
    )  # fmt: skip

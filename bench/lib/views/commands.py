"""Tables of `commands.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import SETS, Table, percent, points, spread, with_interval


def tables(results: Results) -> Iterator[Table]:
    """Word errors, agreement of the native runtime with torch, and speed."""
    errors = results.rows["errors"]
    columns = ["model", "bytes", "times smaller", *SETS.values()]
    yield Table(
        "", "WER, greedy, no language model (95% interval)", columns,
        [[*_head(row), *(with_interval(row[name]) for name in SETS)] for row in errors],
    )  # fmt: skip
    yield Table(
        "change", "Points of WER more than the original (95% interval, paired)", columns,
        [
            [*_head(row), *(points(row[name]) for name in SETS)]
            for row in errors if row["bytes"] is not None
        ],
    )  # fmt: skip
    yield Table(
        "agreement", "The native runtime against torch",
        ["file", "frames", "largest difference of log-probabilities", "best token agrees"],
        [
            [row["file"], f"{row['frames']:,}", f"{row['difference']:.2e}", percent(row["agree"])]
            for row in results.rows["agreement"]
        ],
    )  # fmt: skip
    yield Table(
        "speed", "One thread, median (quartiles)",
        ["file", "ms a frame", "torch float32", "times as fast"],
        [
            [
                row["file"], spread(row["ms_a_frame"], row.get("ms_a_frame_quartiles")),
                spread(row["torch_ms_a_frame"], row.get("torch_ms_a_frame_quartiles")),
                f"{row['times_as_fast']:.1f}",
            ]
            for row in results.rows["speed"]
        ],
    )  # fmt: skip


def _head(row: Row) -> list[str]:
    if row["bytes"] is None:
        return [row["model"], "", ""]
    return [row["model"], f"{row['bytes']:,}", f"{row['ratio']:.1f}"]

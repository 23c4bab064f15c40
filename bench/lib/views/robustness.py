"""Tables of `robustness.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import SETS, Table, percent, pivot

CODECS = ("mp3_32", "mp3_16", "opus")
LIMIT = 2.0
"""How many times the errors of clean speech are allowed."""


def tables(results: Results) -> Iterator[Table]:
    """Word error rates by condition, and the conditions beyond the limit."""
    rows = results.rows["errors"]
    for name in dict.fromkeys(row["set"] for row in rows):
        columns, cells = pivot(
            [row for row in rows if row["set"] == name], _title, lambda row: row["model"], _cell
        )
        yield Table(
            "" if name == "digits" else name,
            f"WER on {SETS[name]}, and how many times that of clean speech",
            ["condition", *columns], cells,
        )  # fmt: skip
    yield Table(
        "beyond", f"More than {LIMIT:g} times the errors of clean speech",
        ["condition", "set", "model", "WER", "95% interval", "times"],
        [
            [
                _title(row), SETS[row["set"]], row["model"], percent(row["wer"]),
                "{:.1%} to {:.1%}".format(*row["wer_interval"]), f"{row['times_clean']:.1f}",
            ]
            for row in rows
            if row["bounded"] and row["times_clean"] and row["times_clean"] > LIMIT
        ],
    )  # fmt: skip


def _title(row: Row) -> str:
    rate = f", {row['kilobits']:.0f} kbit/s" if row["condition"] in CODECS else ""
    return f"{row['title']}{rate}"


def _cell(row: Row) -> str:
    times = "" if row["times_clean"] is None else f" ({row['times_clean']:.1f})"
    return percent(row["wer"]) + times

"""Tables of `quantized_wer.py`."""

from __future__ import annotations

from collections.abc import Iterator

from lib.results import Results, Row
from lib.table import SETS, Table, pivot

MEASURED = ("digits", "an4")
SHOWN = (4, 3, 2)
TITLES = {
    "audio": "error compensation by audio",
    "synthetic": "error compensation by synthetic speech",
    "no": "no error compensation",
}


def tables(results: Results) -> Iterator[Table]:
    """For each way to know the inputs a row a method; points of WER more, and bits of the file."""
    for known, title in TITLES.items():
        rows = [
            row for row in results.rows["files"]
            if row["calibration"] == known and row["bits"] in SHOWN
        ]  # fmt: skip
        columns, cells = pivot(
            rows, lambda row: str(row["method"]), lambda row: f"{row['bits']:g} bits", _cell
        )
        part = "" if known == "audio" else known
        names = "/".join(SETS[name] for name in MEASURED)
        heading = f"Points of WER more, {names} (bits a weight in the file), {title}"
        yield Table(part, heading, ["method", *columns], cells)


def _cell(row: Row) -> str:
    changes = "/".join(f"{row[name]['change']:+.2f}" for name in MEASURED)
    return f"{changes} ({row['file_bits']:.2f})"

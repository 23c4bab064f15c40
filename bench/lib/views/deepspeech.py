"""Tables of `deepspeech.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table, points, with_interval

WAYS = {
    "without-data": "no data", "audio": "audio", "distilled": "distilled",
    "fine-tuned": "with transcripts",
}  # fmt: skip
"""What the ways are called in tables, by the second word of a file's name."""
EQUAL = "100 "
"""How the names of the files begin that have equal bytes."""
LOSSLESS, DISTILLED = "lossless", " distilled"
"""The file of the headline that no training changed, and how the names of the others end."""


def tables(results: Results) -> Iterator[Table]:
    """CER in a square of ratios and ways; errors, speed and cost of every file; the headline; equal
    bytes."""
    files, speed, costs = (results.rows[part] for part in ("files", "speed", "costs"))
    yield _square(files)
    yield _errors("errors", "Errors of every file, greedy, against the lossless one", files)
    yield Table(
        "speed", "One thread, side by side, features and decoding included",
        ["file", "real-time factor", "times as fast as the engine", "to open, ms",
         "resident, MB", "of which before opening"],
        [_speed(row) for row in speed],
    )  # fmt: skip
    yield Table(
        "costs", "What it took to make",
        ["file", "minutes", "of processors", "peak memory, GB"],
        [_cost(row) for row in costs],
    )  # fmt: skip
    yield _headline(files, speed)
    equal = [row for row in files if row["file"].startswith(EQUAL)]
    yield _errors("equal", "Of equal bytes, compressed and dense", equal)


def _square(rows: Sequence[Row]) -> Table:
    """A row a ratio, a column a way: CER and its change from the original."""
    cells = {row["file"]: f"{row['cer']:.1%} ({row['cer_change']:+.1f})" for row in rows}
    ratios = sorted({int(name.split()[0]) for name in cells if _is_of_square(name)})
    return Table(
        "", "CER, greedy (points above the original)", ["times smaller", *WAYS.values()],
        [[f"{ratio}x", *(cells.get(f"{ratio} {way}", "") for way in WAYS)] for ratio in ratios],
    )  # fmt: skip


def _is_of_square(name: str) -> bool:
    ratio, _, way = name.partition(" ")
    return ratio.isdigit() and way in WAYS


def _errors(part: str, title: str, rows: Sequence[Row]) -> Table:
    return Table(
        part, title,
        ["file", "bytes", "times smaller", "CER", "WER", "CER, points more", "relative"],
        [
            [
                shown(row["file"]), f"{row['bytes']:,}", f"{row['ratio']:.1f}",
                with_interval(row, "cer"), with_interval(row), points(row, "cer_change"),
                f"{row['cer_relative']:+.1%}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _headline(files: Sequence[Row], speed: Sequence[Row]) -> Table:
    """The engine with the original, then what it becomes without loss and distilled."""
    fast = {row["file"]: row for row in speed}
    timed = [row for row in files if row["file"] in fast]
    rows = timed[:1] + [
        row for row in timed[1:] if row["file"] == LOSSLESS or row["file"].endswith(DISTILLED)
    ]
    return Table(
        "headline", "Bytes, errors and speed",
        ["model", "bytes", "times smaller", "CER", "points more", "speed"],
        [
            [
                shown(row["file"]), f"{row['bytes']:,}", f"{row['ratio']:.1f}", f"{row['cer']:.1%}",
                points(row, "cer_change"), _times(fast[row["file"]]),
            ]
            for row in rows
        ],
    )  # fmt: skip


def _times(row: Row) -> str:
    faster = row["times_as_fast"]
    return "" if faster is None else f"{faster:.1f}x"


def _speed(row: Row) -> list[str]:
    faster, held, before = row["times_as_fast"], row["resident_bytes"], row["resident_before"]
    return [
        shown(row["file"]), f"{row['rtf']:.4f}", "" if faster is None else f"{faster:.1f}",
        f"{row['open_ms']:.1f}", _megabytes(held), _megabytes(before),
    ]  # fmt: skip


def _cost(row: Row) -> list[str]:
    return [
        shown(row["file"]), f"{row['seconds'] / 60:.1f}", f"{row['processor_seconds'] / 60:.1f}",
        f"{row['peak_bytes'] / 1e9:.1f}",
    ]  # fmt: skip


def shown(name: str) -> str:
    """What a file is called in tables: "50x, audio" is "50 audio"."""
    ratio, _, way = name.partition(" ")
    return f"{ratio}x, {WAYS.get(way, way)}" if ratio.isdigit() else name


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"

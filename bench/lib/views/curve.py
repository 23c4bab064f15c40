"""Tables of `curve.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lib.results import Results, Row
from lib.table import SETS, Table, figure, pivot, points

SET_NAMES = "/".join(SETS.values())
PLANNER, AUDIO, SYNTHETIC = "planner", "audio", "synthetic"
EARLIER = "before quantization"
"""Of rows whose fine-tuning stood in front of the quantization."""


def tables(results: Results) -> Iterator[Table]:
    """The planner's files, then all ways side by side; untuned, then fine-tuned."""
    rows = sorted(results.rows["points"], key=lambda row: float(row["ratio"]))
    now = [row for row in rows if row.get("tuned") != EARLIER]
    untuned = [row for row in now if not row["steps"]]
    tuned = [row for row in now if row["steps"]]
    audio = [row for row in untuned if row["calibration"] == AUDIO]
    yield _planned("", "Plans, calibrated by audio", audio)
    synthetic = [row for row in untuned if row["calibration"] == SYNTHETIC]
    yield _planned("synthetic", "Plans, calibrated by synthetic speech", synthetic)
    yield _side_by_side("strategies", "Each way", audio)
    yield _divergence(audio)
    yield _planned("tuned", "Plans, fine-tuned", tuned)
    yield _side_by_side("tuned_strategies", "Each way, fine-tuned", tuned)
    earlier = [row for row in rows if row.get("tuned") == EARLIER]
    yield _side_by_side("tuned_before", "Each way, fine-tuned before quantization", earlier)


def _planned(part: str, title: str, rows: Iterable[Row]) -> Table:
    return Table(
        part, f"{title}: points of WER more than the original (95% interval, paired)",
        ["times smaller", "bytes", *SETS.values(), "KL"],
        [
            [
                f"{row['ratio']:g}", _bytes(row), *(points(row[name]) for name in SETS),
                _triple(row, "kl", "{:.3f}"),
            ]
            for row in rows if row["strategy"] == PLANNER
        ],
    )  # fmt: skip


def _side_by_side(part: str, title: str, rows: Sequence[Row]) -> Table:
    return _by_strategy(part, f"{title}: points of WER more, {SET_NAMES}", rows, "change")


def _divergence(rows: Sequence[Row]) -> Table:
    title = f"Each way: KL divergence of the outputs, nats a frame, {SET_NAMES}"
    return _by_strategy("divergence", title, rows, "kl")


def _by_strategy(part: str, title: str, rows: Sequence[Row], key: str) -> Table:
    form = "{:+.1f}" if key == "change" else "{:.3f}"
    strategies, cells = pivot(
        rows,
        lambda row: f"{row['ratio']:g}",
        lambda row: str(row["strategy"]),
        lambda row: _triple(row, key, form),
    )
    return Table(part, title, ["times smaller", *strategies], cells)


def _triple(row: Row, key: str, form: str) -> str:
    """One figure a test set; nothing where they are not known."""
    values = [row[name].get(key) for name in SETS]
    return "/".join(figure(value, form) for value in values) if None not in values else ""


def _bytes(row: Row) -> str:
    return "" if row["bytes"] is None else f"{row['bytes']:,}"

"""Tables of `pruning.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib.results import Results, Row
from lib.table import Table, pivot

AUDIO, SYNTHETIC = "audio", "synthetic"


def tables(results: Results) -> Iterator[Table]:
    """Units by each importance, refitted and cut, then factors."""
    units = results.rows["units"]
    for refit in (True, False):
        for calibration in (AUDIO, SYNTHETIC):
            what = "refitted" if refit else "cut"
            part = "" if refit and calibration == AUDIO else f"{what}_{calibration}"
            chosen = [r for r in units if r["refit"] == refit and r["calibration"] == calibration]
            title = f"Units {what}, {calibration}: KL (times that of random orders), WER"
            yield _by(part, title, "ranking", "keep", chosen)
    title = "Factors: KL (times that of plain ones), WER"
    yield _by("factors", title, "weighted by", "rank", results.rows["factors"])


def _by(part: str, title: str, down: str, across: str, rows: Sequence[Row]) -> Table:
    form = "{:.0%} kept" if across == "keep" else "rank {:g}"
    columns, cells = pivot(rows, _name, lambda row: form.format(row[across]), _cell)
    return Table(part, title, [down, *columns], cells)


def _name(row: Row) -> str:
    """What ranks the units, or weighs the factors and with which calibration."""
    if "importance" in row:
        return str(row["importance"])
    return ", ".join(filter(None, (row["weighted_by"], row["calibration"])))


def _cell(row: Row) -> str:
    return f"{_figure(row, 'kl', '{:.4f}')} ({row['times']:.2f}), {_figure(row, 'wer', '{:.1%}')}"


def _figure(row: Row, key: str, form: str) -> str:
    """The value, and the standard deviation where it is the mean of several."""
    deviation = row.get(f"{key}_deviation")
    return form.format(row[key]) + ("" if deviation is None else f" ± {form.format(deviation)}")

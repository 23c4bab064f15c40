"""Small tables: printed on the screen, and as Markdown in the docs, from the same rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import rich.console
import rich.markup
import rich.table

from lib.results import Row

SETS = {"digits": "digits", "an4": "AN4", "commands": "command words"}
"""What the test sets are called in tables."""
WIDTH = 160
"""Columns of what is not a terminal."""


@dataclass(frozen=True)
class Table:
    """Cells as text. `part` tells the tables of one benchmark apart; that of the first is empty."""

    part: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def pivot(
    rows: Iterable[Row],
    down: Callable[[Row], str],
    across: Callable[[Row], str],
    cell: Callable[[Row], str],
) -> tuple[list[str], list[list[str]]]:
    """Heads of columns and rows of cells, the first of which is the row's name.

    Both are in the order in which they first appear; a cell without a row stays empty.
    """
    found: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns[across(row)] = None
        found.setdefault(down(row), {})[across(row)] = cell(row)
    return list(columns), [
        [name, *(cells.get(c, "") for c in columns)] for name, cells in found.items()
    ]


def markdown(table: Table) -> str:
    """A Markdown table, without its title."""
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def show(tables: Iterable[Table]) -> None:
    """Print tables, the first column to the left, the others to the right."""
    screen = rich.console.Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        printed = rich.table.Table(title=table.title, title_justify="left", title_style="bold")
        for i, column in enumerate(table.columns):
            printed.add_column(rich.markup.escape(column), justify="right" if i else "left")
        for row in table.rows:
            printed.add_row(*map(rich.markup.escape, row))
        screen.print(printed)


def percent(share: float | None) -> str:
    """A share of 1, with two decimals."""
    return "" if share is None else f"{share:.2%}"


def with_interval(facts: Row, rate: str = "wer") -> str:
    """An error rate, that of words or another, and its 95% interval where it is known."""
    low, high = facts.get(f"{rate}_interval") or (None, None)
    return percent(facts[rate]) + ("" if low is None else f" ({low:.1%} to {high:.1%})")


def points(facts: Row, change: str = "change") -> str:
    """A change of an error rate in points, and its 95% interval where it is known."""
    low, high = facts.get(f"{change}_interval") or (None, None)
    return f"{facts[change]:+.2f}" + ("" if low is None else f" ({low:+.1f} to {high:+.1f})")


def spread(median: float | None, quartiles: Sequence[float] | None = None) -> str:
    """A median with three digits, and quartiles where they are known."""
    if median is None:
        return ""
    ends = f" ({_three(quartiles[0])}-{_three(quartiles[1])})" if quartiles else ""
    return _three(median) + ends


def figure(value: float, form: str) -> str:
    """A number in a format that rounds halves away from zero, as people do."""
    return form.format(value + math.copysign(1e-9, value))


def _three(value: float) -> str:
    """Three digits, zeros at the end included."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")

"""How progress is shown: one live line on a terminal, elsewhere a plain line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tinyvox.cli.output import error_console
from tinyvox.progress import Update

SECONDS_A_LINE = 10.0


@contextmanager
def shown(console: Console = error_console) -> Iterator[Callable[[Update], None]]:
    """Show updates on standard error while the block runs, and leave nothing behind there."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True,
    ) as bars:  # fmt: skip
        yield LiveLine(bars)


class LiveLine:
    """The present stage as a bar; a stage that begins takes the place of the one before."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, update: Update) -> None:
        """Show the update."""
        if update.note:
            self._bars.console.print(update.note, highlight=False, markup=False, soft_wrap=True)
        if self._task is None or update.stage != self._stage:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._stage = update.stage
            self._task = self._bars.add_task(update.stage, total=update.total, best="")
        self._bars.update(
            self._task, completed=update.done, total=update.total, best=best_so_far(update)
        )


class PlainLines:
    """A line with the same facts, at most every ten seconds; a note at once."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._stage = ""
        self._began = self._printed = clock()

    def __call__(self, update: Update) -> None:
        """Print the update, where the last line is ten seconds old."""
        if update.note:
            self._console.print(update.note, highlight=False, markup=False, soft_wrap=True)
        now = self._clock()
        if update.stage != self._stage:
            self._stage, self._began = update.stage, now
        if now - self._printed >= SECONDS_A_LINE:
            self._printed = now
            self._console.print(line_of(update, now - self._began), highlight=False, soft_wrap=True)


def line_of(update: Update, seconds: float) -> str:
    """`planning: 3 of 12, best 250,123 bytes at a divergence of 0.012, 0:32 gone, 1:36 left`."""
    parts = [f"{update.done} of {update.total}" if update.total else f"{update.done}"]
    if best := best_so_far(update):
        parts.append(best)
    parts.append(f"{_clock_text(seconds)} gone")
    if update.total and update.done:
        parts.append(f"{_clock_text(seconds / update.done * (update.total - update.done))} left")
    return f"{update.stage}: {', '.join(parts)}"


def best_so_far(update: Update) -> str:
    """The best result so far in words; empty where there is none."""
    if update.best_bytes is not None:
        loss = "" if update.best_loss is None else f" at a divergence of {update.best_loss:.3g}"
        return f"best {update.best_bytes:,} bytes{loss}"
    return "" if update.best_loss is None else f"loss {update.best_loss:.4g}"


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"

"""`--log`: where long work is, as JSON lines that `tinyvox watch` and other programs read."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tinyvox.cli.progress_display import shown
from tinyvox.cli.trackers import FAILED, FINISHED, TRACKERS, Tracker
from tinyvox.progress import Update
from tinyvox.storage import check_output, open_to_add

SECONDS_A_LINE = 1.0
BEGINNING = b'{"time": "'
"""Of each line."""


@contextmanager
def shown_and_logged(log: Path | None) -> Iterator[Callable[[Update], None]]:
    """Show updates while the block runs and, with a log, append them to it, and how it ended. A log
    named as one of `TRACKERS` is kept by that library.

    Raises FileError where the log cannot be written, is a file of something else, or another run
    has it, TinyvoxError
    where the library is not there.
    """
    if log is None:
        with shown() as progress:
            yield progress
        return
    with _opened(log) as tracker, shown() as progress:

        def both(update: Update) -> None:
            tracker(update)
            progress(update)

        try:
            yield both
        except BaseException as error:
            tracker.end(FAILED, str(error) or type(error).__name__)
            raise
        tracker.end(FINISHED)


@contextmanager
def _opened(log: Path) -> Iterator[Tracker]:
    if (tracker := TRACKERS.get(str(log))) is not None:
        yield tracker()
        return
    check_output(log)
    with open_to_add(log, BEGINNING) as file:
        yield LogLines(file)


class LogLines:
    """A line for each update, at most one a second; at once for a new stage, the end of one, and a
    note."""

    def __init__(self, file: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._clock = file, clock
        self._stage = ""
        self._written = -SECONDS_A_LINE

    def __call__(self, update: Update) -> None:
        """Write the update, where the last line is old enough."""
        now = self._clock()
        at_once = update.stage != self._stage or update.note or update.done == update.total
        if at_once or now - self._written >= SECONDS_A_LINE:
            self._stage, self._written = update.stage, now
            loss = update.best_loss
            known = loss is None or math.isfinite(loss)  # JSON has no other numbers
            self._write(asdict(update if known else replace(update, best_loss=None)))

    def end(self, stage: str, note: str = "") -> None:
        """Write how the work ended."""
        self._write(asdict(Update(stage, note=note)))

    def _write(self, facts: dict[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

"""`tinyvox watch`: a live view of a run from its log, or of a sweep from its results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from tinyvox.cli import output
from tinyvox.cli.progress_display import line_of
from tinyvox.cli.trackers import FAILED, FINISHED
from tinyvox.errors import DataError, FileError
from tinyvox.progress import Update
from tinyvox.records import LogLine, TaskLine
from tinyvox.storage import describe

RESULTS = "results.jsonl"
"""The file of a sweep, in its folder."""
NOTES, SHOWN = 5, 12
"""Notes and results that are shown, at most."""


@dataclass
class Stage:
    """A stage: when it began, and where it was last."""

    began: datetime
    last: datetime
    update: Update


@dataclass
class View:
    """What a log or the results of a sweep have said so far."""

    stages: dict[str, Stage] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    results: list[TaskLine] = field(default_factory=list)
    ended: Update | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Take note of a line. Raises ValidationError where it is none."""
        if "task" in line:
            self.results.append(TaskLine.model_validate(line))
            return
        found = LogLine.model_validate(line)
        when = found.time
        update = Update(**{each.name: getattr(found, each.name) for each in fields(Update)})
        if update.stage in (FINISHED, FAILED):
            self.ended = update
            return
        self.ended = None  # the run goes on
        if update.note:
            self.notes.append(update.note)
        begun = self.stages.pop(update.stage, None)
        going_on = begun is not None and update.done >= begun.update.done
        began = begun.began if begun is not None and going_on else when
        self.stages[update.stage] = Stage(began, when, update)

    def rendered(self) -> RenderableType:
        """The view for a terminal."""
        parts: list[RenderableType] = [escape(note) for note in self.notes[-NOTES:]]
        if self.stages:
            parts.append(_stages(self.stages))
        if self.results:
            parts += [_count(self.results), _results(self.results)]
        if self.ended is not None:
            parts.append(f"[bold]{escape(_ending(self.ended))}[/]")
        return Group(*parts or ["nothing yet"])


def _ending(update: Update) -> str:
    return f"{update.stage}: {update.note}" if update.note else update.stage


def _stages(stages: dict[str, Stage]) -> Table:
    table = Table.grid(padding=(0, 1))
    for each in stages.values():
        total = each.update.total
        bar = ProgressBar(total or None, each.update.done, width=16)
        seconds = (each.last - each.began).total_seconds()
        table.add_row(bar if total else "", escape(line_of(each.update, seconds)))
    return table


def _count(results: list[TaskLine]) -> str:
    failed = sum(each.error is not None for each in results)
    return f"{len(results)} results" + (f", of which {failed} failed" if failed else "")


def _results(results: list[TaskLine]) -> Table:
    """The tasks of a sweep that came last, and their numbers."""
    table = Table(box=None)
    for column in ("task", "bytes", "WER"):
        table.add_column(column, overflow="fold", justify="left" if column == "task" else "right")
    for each in results[-SHOWN:]:
        size = each.compress or each.inspect
        said = (
            "failed" if each.error is not None else "" if size is None else f"{size.file_bytes:,}"
        )
        wer = None if each.eval is None else each.eval.wer
        table.add_row(escape(each.task.name), said, "" if wer is None else output.percent(wer))
    return table


class Follower:
    """The lines of a file that grows, each when it is whole, with their numbers from 1 on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = self._count = 0

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines since the last call. Raises FileError where the file cannot be read or is
        shorter than before, and DataError where a line is no JSON object."""
        whole = self._whole()
        self._read += len(whole)
        for text in whole.split(b"\n")[:-1]:
            self._count += 1
            with suppress(ValueError, RecursionError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield self._count, line
                    continue
            raise DataError(
                f"{self.path}: line {self._count}: found {text[:40]!r}, expected a JSON object"
            )

    def _whole(self) -> bytes:
        """What came since the last call, up to the end of its last whole line."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._read:
                    raise FileError(f"{self.path}: is shorter than before; watch it again")
                file.seek(self._read)
                content = file.read()
        except OSError as error:
            raise FileError(f"{self.path}: cannot be read: {error.strerror}") from error
        return content[: content.rfind(b"\n") + 1]


def watch(
    run: Annotated[
        Path, typer.Argument(help="The file of --log, or the folder or the results of a sweep.")
    ],
    once: Annotated[
        bool, typer.Option("--once", help="Show what there is, and do not wait for more.")
    ] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How often to look.")] = 1.0,
) -> None:
    """Show where a run is, until it ends: one of --log, or a sweep. Ctrl-C stops watching alone."""
    path = run / RESULTS if run.is_dir() else run
    follower, view, console = Follower(path), View(), Console()
    _take(follower, view)
    if once or view.ended is not None:
        console.print(view.rendered())
        return
    with Live(view.rendered(), console=console, auto_refresh=False) as live:
        while view.ended is None:
            time.sleep(seconds)
            _take(follower, view)
            live.update(view.rendered(), refresh=True)


def _take(follower: Follower, view: View) -> None:
    for number, line in follower.lines():
        try:
            view.add(line)
        except ValidationError as error:
            raise DataError(
                f"{follower.path}: line {number}: {describe(error)}; a line of --log or of a sweep "
                "was expected"
            ) from error

"""`tinyvox watch`: a live view of a run from its log, or of a sweep from its results."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
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
    results: list[dict[str, Any]] = field(default_factory=list)
    ended: Update | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Take note of a line. Raises KeyError, TypeError or ValueError where it is none."""
        if "stage" not in line:
            line["task"]["name"]
            self.results.append(line)
            return
        when = datetime.fromisoformat(line.pop("time"))
        update = Update(**line)
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
        return Group(*parts)


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


def _count(results: list[dict[str, Any]]) -> str:
    failed = sum("error" in each for each in results)
    return f"{len(results)} results" + (f", of which {failed} failed" if failed else "")


def _results(results: list[dict[str, Any]]) -> Table:
    """The tasks of a sweep that came last, and their numbers."""
    table = Table(box=None)
    for column in ("task", "bytes", "WER"):
        table.add_column(column, overflow="fold", justify="left" if column == "task" else "right")
    for each in results[-SHOWN:]:
        size = (each.get("compress") or each.get("inspect") or {}).get("file_bytes")
        wer = (each.get("eval") or {}).get("wer")
        said = "failed" if "error" in each else "" if size is None else f"{size:,}"
        name = escape(str(each["task"]["name"]))
        table.add_row(name, said, "" if wer is None else output.percent(wer))
    return table


class Follower:
    """The lines of a file that grows, each when it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines since the last call. Raises FileError where the file cannot be read, and
        DataError where a line is no JSON object."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except OSError as error:
            raise FileError(f"{self.path}: cannot be read: {error.strerror}") from error
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for text in whole.splitlines():
            with suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line
                    continue
            raise DataError(
                f"{self.path}: found {text[:40]!r}, expected a JSON object on each line"
            )


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
    for line in follower.lines():
        try:
            view.add(line)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{follower.path}: found a line with the keys {', '.join(line) or 'none'}, "
                "expected one of --log or of a sweep"
            ) from error

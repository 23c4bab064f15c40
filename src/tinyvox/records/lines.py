"""The schema of lines that are written while work goes on: those of a log, and of a sweep."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from tinyvox.records.schema import Count, Part


class LogLine(Part):
    """A line of `--log`: where a stage of the work was."""

    time: Annotated[AwareDatetime, Field(strict=False)]
    """When, as ISO 8601 has it, with the time zone."""
    stage: str
    """What is done; in the end `finished` or `failed`."""
    done: Count = 0
    """Steps that are done."""
    total: Count | None = None
    """Of so many; null where nobody knows."""
    best_bytes: Count | None = None
    """The best file so far, where the stage searches for one."""
    best_loss: float | None = None
    """Its loss or, where it trains, that of the last step; null where it is not finite."""
    note: str = ""
    """A line that people must see."""


class Name(Part):
    """Which task it is."""

    name: str


class Size(Part):
    """Of `compress` and `inspect`, what a view shows."""

    file_bytes: Count


class Rate(Part):
    """Of `eval`, what a view shows."""

    wer: float | None = None


class TaskLine(Part):
    """A line of a sweep's results, as far as a view shows it."""

    task: Name
    compress: Size | None = None
    inspect: Size | None = None
    eval: Rate | None = None
    error: str | None = None

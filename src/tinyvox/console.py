"""What people see of the commands: tables, progress bars, one line an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

error_console = Console(stderr=True)


def console(as_json: bool) -> Console:
    """Where people's text goes: standard error when standard output carries JSON."""
    return error_console if as_json else Console()


def print_json(facts: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(facts, indent=1))


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; call it with (done, of)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=error_console, transient=True,
        disable=not error_console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def size_text(count: int) -> str:
    """Bytes as people read them, in steps of 1000."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def percent(value: float) -> str:
    return f"{100 * value:.2f}%"


def percent_interval(interval: list[float]) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}%"


def sizes_table(facts: dict[str, Any]) -> Table:
    """Every row of a file, and their sum; narrow enough for 80 columns."""
    table = Table(
        title=facts["file"], title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        pad_edge=False, show_edge=False,
    )  # fmt: skip
    table.add_column("what", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    table.add_column("coding", no_wrap=True)
    for column in ("code\nbits", "coded\nbits", "file\nbits", "rel.\nMSE"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    for row in (*facts["tensors"], *facts["overhead"]):
        shape = "" if row["shape"] is None else "x".join(map(str, row["shape"]))
        numbers = [
            _number(row.get("code_bits"), "d"),
            _number(row.get("coded_bits"), ".2f"),
            _number(row["bits_per_weight"], ".2f"),
            _number(row.get("relative_mse"), ".2g"),
        ]
        coding = row.get("method") or row["kind"]
        table.add_row(row["name"], shape, coding, *numbers, f"{row['bytes']:,}")
    total = sum(row["bytes"] for row in (*facts["tensors"], *facts["overhead"]))
    table.add_section()
    table.add_row("sum", *[""] * 6, f"{total:,}")
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def print_sizes(facts: dict[str, Any], out: Console) -> None:
    """The table, the ratio, and what was left in float, loudly."""
    out.print(sizes_table(facts))
    original = size_text(facts["original_bytes"])
    out.print(
        f"{facts['file_bytes']:,} bytes on disk, {facts['ratio']:.1f} times smaller than the "
        f"original's {original} ({facts['parameters']:,} parameters now)"
    )
    if facts["left_float"]:
        out.print(f"[bold red]left in float:[/] {', '.join(facts['left_float'])}")


def print_plan(plan: Any, out: Console) -> None:
    """What is to be done to each matrix, and what that alone does to the model's outputs."""
    table = Table(
        title="plan", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        pad_edge=False, show_edge=False,
    )  # fmt: skip
    table.add_column("matrix", no_wrap=True)
    for column in ("shape", "rank", "coded\nbits", "bytes", "moves outputs by\nforetold", "found"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in plan.rows:
        table.add_row(
            row.name, "x".join(map(str, row.shape)), "whole" if row.rank is None else str(row.rank),
            f"{row.bits:g}", f"{row.bytes:,}", f"{row.predicted:.2g}", f"{row.measured:.2g}",
        )  # fmt: skip
    table.add_section()
    table.add_row("in all", "", "", "", f"{plan.size:,}", "", f"{plan.distance:.2g}")
    out.print(table)


def print_score(title: str, score: dict[str, Any], out: Console) -> None:
    out.print(
        f"{title}: WER {percent(score['wer'])} "
        f"(95% interval {percent_interval(score['wer_interval'])}), "
        f"CER {percent(score['cer'])}, {score['utterances']} utterances, "
        f"real-time factor {score['rtf']:.4f}",
        soft_wrap=True,
    )

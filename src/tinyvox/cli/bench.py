"""`tinyvox bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output
from tinyvox.cli.options import AsJson


def bench(
    model: Annotated[Path, typer.Argument(help="A .tvx file.")],
    against: Annotated[
        Path | None, typer.Option(help="The original model, run by PyTorch in float32.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Frames that are run in one call.")] = 16,
    threads: Annotated[
        int, typer.Option(min=1, max=64, help="Threads used by tinyvox and by PyTorch.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure the milliseconds a frame takes, beside the original in PyTorch."""
    from tinyvox import workflow

    facts = workflow.timed_facts(model, against, chunk=chunk, threads=threads)
    if as_json:
        output.print_json(facts)
    else:
        name = None if against is None else against.name
        output.print_timing(model.name, name, facts, output.people())

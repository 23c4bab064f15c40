"""`tinyvox inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output
from tinyvox.cli.options import AsJson


def inspect(
    file: Annotated[Path, typer.Argument(help="A .tvx file, or a model to compress.")],
    verbose: Annotated[
        bool, typer.Option("--verbose", help="A line for every layer, without matrices too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show every matrix, and where every byte of a .tvx file goes."""
    from tinyvox import workflow

    facts = workflow.described_facts(file)
    if as_json:
        output.print_json(facts)
    else:
        output.print_sizes(facts, output.people(), verbose=verbose)

"""`tinyvox export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli import output as printing
from tinyvox.cli.options import AsJson, Card


def export(
    model: Annotated[Path, typer.Argument(help="A .tvx file, or another model.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="The file to write: .onnx, .safetensors or .pt2, by its suffix."
        ),
    ],
    card: Card = None,
    as_json: AsJson = False,
) -> None:
    """Write a small model as a file of another tool: ONNX, safetensors or PyTorch."""
    from tinyvox import workflow

    facts = workflow.export(model, output, card=card)
    if as_json:
        printing.print_json(facts)
    else:
        printing.print_export(facts, printing.people())

"""`tinyvox train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli.progress_display import shown


def train(config: Annotated[Path, typer.Argument(help="Training configuration, YAML.")]) -> None:
    """Train a model from manifests; after a stop, the same command goes on from the checkpoint."""
    from tinyvox import workflow

    settings = workflow.read_training(config)
    with shown() as progress:
        model = workflow.train(settings, progress)
    print(f"{settings.output}: {model.count_parameters():,} parameters")

"""`tinyvox train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinyvox.cli.options import Log
from tinyvox.cli.progress_log import shown_and_logged


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration, YAML.")],
    log: Log = None,
) -> None:
    """Train a model from manifests; after a stop, the same command goes on from the checkpoint."""
    from tinyvox import workflow

    settings = workflow.read_training(config)
    with shown_and_logged(log) as progress:
        model = workflow.train(settings, progress)
    print(f"{settings.output}: {model.count_parameters():,} parameters")
